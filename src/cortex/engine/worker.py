"""The worker process: owns its devices, loads models, steps their engines.

`python -m cortex.engine.worker --fd N` with N one end of a socketpair: commands are received and notices sent as frames
of `wire.worker`. Threads: this loop (no other thread uses an engine), one that reads the socket, one that prepares
requests, and one per load; they hand their results to the loop through one queue. At end of file on the socket the
parent is gone: exit.
"""

from __future__ import annotations

import argparse
import logging
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import msgspec
import psutil

from cortex.engine.fault_injection import Faults
from cortex.engine.llama import library
from cortex.engine.llama.context import DecodeFailed
from cortex.engine.loading import LoadedModel, load
from cortex.errors import CortexError, Draining, InternalError, ModelLoadFailed, ModelNotFound
from cortex.wire.events import Event, failed
from cortex.wire.framing import FrameDecoder, encode_frame
from cortex.wire.inference import Request
from cortex.wire.worker import (
    Canary,
    Cancel,
    Command,
    Emission,
    Emissions,
    Heartbeat,
    Load,
    LoadFailed,
    LoadProgress,
    LoadSpec,
    Notice,
    Probe,
    Ready,
    RestoreState,
    SaveState,
    Shutdown,
    StateRestored,
    StateSaved,
    Submit,
    Unload,
    Unloaded,
)

__all__ = ["Worker", "main"]

logger = logging.getLogger(__name__)

_HEARTBEAT_S = 0.5
_PROGRESS_S = 0.1
"""Least time between two LoadProgress notices of one load."""
_READ_BYTES = 1 << 18
_SWITCH_S = 0.0005
"""Interpreter switch interval (sys.setswitchinterval; default 5 ms): the longest that the preparing thread holds the
interpreter while the loop has a token to sample."""

Task = Callable[[], None]
"""Work for the loop from another thread."""


class Worker:
    """Serves the commands of `parent`. `threads`: for models whose profile names none, None = the physical cores."""

    def __init__(self, parent: socket.socket, tap: library.LogTap, *, threads: int | None = None) -> None:
        self._parent = parent
        self._tap = tap
        self._threads = threads
        self._inbox: queue.SimpleQueue[Command | Task | None] = queue.SimpleQueue()
        self._models: dict[str, LoadedModel] = {}
        self._loading: set[str] = set()
        self._preparing: set[str] = set()
        self._preparer = ThreadPoolExecutor(1, "prepare")
        self._faults = Faults()
        self._process = psutil.Process()
        self._running = True
        self._last_heartbeat = 0.0

    def run(self) -> None:
        """Until end of file or Shutdown. Raises DecodeFailed when it is fatal: no context can be used then."""
        self._send(Ready(os.getpid(), library.device_names(), library.version(), library.system_info()))
        threading.Thread(target=self._read, name="read", daemon=True).start()
        while self._running:
            self._take_commands()
            self._step_models()
            self._send_heartbeat()
        self._preparer.shutdown(cancel_futures=True)
        for loaded in self._models.values():
            loaded.engine.close()
            loaded.free(lambda: None)

    # ---- the loop

    def _take_commands(self) -> None:
        """Handle everything in the queue; with nothing to decode, wait for it until a heartbeat is due."""
        busy = any(loaded.engine.busy for loaded in self._models.values())
        wait = 0.0 if busy else max(0.0, self._last_heartbeat + _HEARTBEAT_S - time.monotonic())
        try:
            item = self._inbox.get(block=not busy, timeout=wait if not busy else None)
            while True:
                self._handle(item)
                item = self._inbox.get_nowait()
        except queue.Empty:
            return

    def _step_models(self) -> None:
        items: list[Emission] = []
        for loaded in self._models.values():
            if loaded.engine.busy:
                self._faults.before_step(loaded.spec)
                items += loaded.engine.step()
        if items:
            self._send(Emissions(items))

    def _send_heartbeat(self) -> None:
        """If one is due."""
        now = time.monotonic()
        if now - self._last_heartbeat < _HEARTBEAT_S:
            return
        self._last_heartbeat = now
        if not self._faults.drop_heartbeat:
            stats = [loaded.engine.stats() for loaded in self._models.values()]
            self._send(Heartbeat(stats, self._process.memory_info().rss))

    # ---- commands

    def _handle(self, item: Command | Task | None) -> None:
        match item:
            case None | Shutdown():
                self._running = False
            case Load(spec):
                self._start_load(spec)
            case Unload(model):
                self._unload(model)
            case Submit(request, age_s):
                self._submit(request, time.monotonic() - age_s)
            case Cancel(request_id):
                self._cancel(request_id)
            case Canary(model) if model in self._models:
                self._models[model].engine.canary()
            case Probe(model) if model in self._models:
                self._send(self._models[model].probe)
            case SaveState(model, directory) if model in self._models:
                self._send(StateSaved(model, *self._models[model].engine.save_state(Path(directory))))
            case RestoreState(model, directory) if model in self._models:
                self._send(StateRestored(model, *self._models[model].engine.restore_state(Path(directory))))
            case SaveState() | Canary() | Probe() | RestoreState():
                logger.warning("command for a model that is not loaded command=%r", item)
            case _:
                item()

    def _start_load(self, spec: LoadSpec) -> None:
        if spec.model in self._models or spec.model in self._loading:
            self._send(LoadFailed(spec.model, "conflict", f"{spec.model} is already loaded here"))
            return
        self._loading.add(spec.model)
        self._faults.learn(spec)
        threading.Thread(target=self._load, args=(spec,), name=f"load {spec.model}", daemon=True).start()

    def _load(self, spec: LoadSpec) -> None:
        """In the load's own thread; the result goes to the loop."""
        try:
            self._faults.before_load(spec)
            loaded = load(spec, self._tap, self._progress_of(spec.model), self._threads)
        except CortexError as error:
            self._inbox.put(partial(self._on_load_failed, spec, error))
        except Exception as error:
            logger.exception("load failed unexpectedly model=%s", spec.model)
            self._inbox.put(partial(self._on_load_failed, spec, ModelLoadFailed(f"{type(error).__name__}: {error}")))
        else:
            self._inbox.put(partial(self._on_loaded, loaded))

    def _progress_of(self, model: str) -> Callable[[float], None]:
        last = 0.0

        def on_progress(fraction: float) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= _PROGRESS_S:
                last = now
                self._inbox.put(partial(self._send, LoadProgress(model, fraction)))

        return on_progress

    def _on_loaded(self, loaded: LoadedModel) -> None:
        self._loading.discard(loaded.spec.model)
        self._models[loaded.spec.model] = loaded
        self._send(loaded.notice)

    def _on_load_failed(self, spec: LoadSpec, error: CortexError) -> None:
        self._loading.discard(spec.model)
        self._send(LoadFailed(spec.model, error.code, error.message))

    def _unload(self, model: str) -> None:
        """The weights are freed last, in the preparing thread: requests still being prepared use their vocabulary."""
        loaded = self._models.pop(model, None)
        if loaded is None:
            self._send(Unloaded(model))
            return
        if items := loaded.engine.close():
            self._send(Emissions(items))
        self._preparer.submit(loaded.free, lambda: self._inbox.put(partial(self._send, Unloaded(model))))

    # ---- requests

    def _submit(self, request: Request, arrival_s: float) -> None:
        loaded = self._models.get(request.model)
        if loaded is None:
            self._reject(request.id, ModelNotFound(f"{request.model} is not loaded in this worker"))
            return
        self._preparing.add(request.id)
        self._preparer.submit(self._prepare, loaded, request, arrival_s)

    def _prepare(self, loaded: LoadedModel, request: Request, arrival_s: float) -> None:
        """In the preparing thread: rendering and tokenising a long prompt must not delay the streams."""
        try:
            submit = loaded.prepare(request)
        except CortexError as error:
            self._inbox.put(partial(self._on_rejected, request.id, error))
        except Exception as error:
            logger.exception("request could not be prepared id=%s", request.id)
            self._inbox.put(partial(self._on_rejected, request.id, InternalError(f"{type(error).__name__}: {error}")))
        else:
            self._inbox.put(partial(self._on_prepared, loaded, request.id, submit, arrival_s))

    def _on_prepared(
        self, loaded: LoadedModel, request_id: str, submit: Callable[[float], None], arrival_s: float
    ) -> None:
        if request_id not in self._preparing:
            return  # cancelled meanwhile
        self._preparing.discard(request_id)
        if self._models.get(loaded.spec.model) is not loaded:
            self._reject(request_id, Draining(f"{loaded.spec.model} was unloaded", retry_after=1))
            return
        submit(arrival_s)

    def _on_rejected(self, request_id: str, error: CortexError) -> None:
        if request_id in self._preparing:
            self._preparing.discard(request_id)
            self._reject(request_id, error)

    def _reject(self, request_id: str, error: CortexError) -> None:
        events: list[Event] = [failed(error)]
        self._send(Emissions([Emission(request_id, events)]))

    def _cancel(self, request_id: str) -> None:
        self._preparing.discard(request_id)
        for loaded in self._models.values():
            loaded.engine.cancel(request_id)

    # ---- the socket

    def _read(self) -> None:
        """In the reading thread. A cancel also stops a long prefill that is being computed at this moment."""
        decoder: FrameDecoder[Command] = FrameDecoder(msgspec.msgpack.Decoder(Command))
        while data := self._receive():
            for command in decoder.feed(data):
                if isinstance(command, Cancel):
                    for loaded in list(self._models.values()):
                        loaded.engine.abort_prefill_of(command.request_id)
                self._inbox.put(command)
        self._inbox.put(None)

    def _receive(self) -> bytes:
        try:
            return self._parent.recv(_READ_BYTES)
        except ConnectionError:
            return b""

    def _send(self, notice: Notice) -> None:
        """In the loop's thread. Blocks while the socket's buffer is full: the parent reads without ever waiting."""
        try:
            self._parent.sendall(encode_frame(notice))
        except (BrokenPipeError, ConnectionResetError):
            self._running = False


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m cortex.engine.worker")
    parser.add_argument("--fd", type=int, required=True, help="inherited end of the socketpair to the parent")
    parser.add_argument("--name", default="worker", help="not used; shown in the process list")
    parser.add_argument("--cpu-threads", type=int, help="threads for models whose profile names none")
    parser.add_argument(
        "--verbose", action="store_true", help="write all of llama.cpp's log, not only warnings and errors"
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    sys.setswitchinterval(_SWITCH_S)
    tap = library.LogTap(verbose=options.verbose)
    tap.install()
    library.start_backend()
    with socket.socket(fileno=options.fd) as parent:
        try:
            Worker(parent, tap, threads=options.cpu_threads).run()
        except DecodeFailed as error:
            # the context must not be used any more, not even to be freed: after a driver error that may hang
            sys.stderr.write(f"fatal: {error}; this worker ends so that it is replaced\n")
            sys.stderr.flush()
            os._exit(3)
    return 0


if __name__ == "__main__":
    sys.exit(main())
