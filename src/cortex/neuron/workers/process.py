"""One worker process: started on demand, watched, restarted with back-off, ended for certain.

A `Worker` is the only writer of its own state. It knows nothing of models' placement: whoever loads models into it
hears of notices and of its death through `WorkerOwner`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cortex.errors import WorkerDied
from cortex.neuron.workers.link import WorkerLink, connect
from cortex.neuron.workers.states import LogTail, WorkerEvent, backoff_s, next_state
from cortex.wire.status import WorkerState, WorkerStatus
from cortex.wire.worker import Command, Heartbeat, Ready, RelayedNotice, Shutdown

__all__ = ["Worker", "WorkerOwner", "WorkerSettings"]

logger = logging.getLogger(__name__)

_START_S = 120.0
"""Importing llama.cpp and opening CUDA on a cold disk takes tens of seconds."""
_STEADY_S = 60.0
"""A worker that was ready this long has earned a restart without back-off."""


class WorkerOwner(Protocol):
    """Who placed models in the worker. Both are called from the event loop and must not block."""

    def on_notice(self, worker: Worker, notice: RelayedNotice) -> None: ...
    def on_death(self, worker: Worker, reason: str) -> None:
        """The process is gone without having been asked; `reason` names exit code and cause."""
        ...


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """`environment` is laid over the parent's; `clock` gives monotonic seconds."""

    id: str
    devices: tuple[str, ...]
    command: Callable[[int], list[str]]
    environment: Mapping[str, str] = field(default_factory=dict)
    kill_grace_s: float = 5.0
    clock: Callable[[], float] = lambda: asyncio.get_running_loop().time()


class Worker:
    def __init__(self, settings: WorkerSettings, owner: WorkerOwner) -> None:
        self.id = settings.id
        self.devices = settings.devices
        self.state: WorkerState = "stopped"
        self.pid: int | None = None
        self.rss_bytes = 0
        self.restarts = 0
        self.load_cycles = 0
        self.exit_code: int | None = None
        self.llama_cpp = ""
        self.gpu_names: list[str] = []
        self.last_notice_at: float | None = None
        self._settings = settings
        self._owner = owner
        self._log = LogTail()
        self._link: WorkerLink | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._life: asyncio.Task[None] | None = None
        self._announced: asyncio.Future[None] | None = None
        self._starting: asyncio.Task[None] | None = None
        self._spawning: asyncio.Task[None] | None = None
        self._stop_asked = asyncio.Event()
        self._deaths = 0
        self._died_at = 0.0
        self._ready_at = 0.0
        self._kill_reason = ""

    # ---- asking

    async def ensure_ready(self) -> None:
        """Start the process if need be, after the back-off, and wait for its first word. Raises WorkerDied."""
        if self.state == "ready":
            return
        if self.state == "draining" and self._life is not None:
            await asyncio.wait([self._life])
        if self._starting is None or self._starting.done():
            self._stop_asked.clear()
            self._starting = asyncio.create_task(self._start(), name=f"start-{self.id}")
            self._starting.add_done_callback(_retrieved)
        await asyncio.shield(self._starting)

    def send(self, command: Command) -> None:
        """Raises WorkerDied when there is no process to hear it."""
        if self._link is None:
            raise WorkerDied(f"worker {self.id} is {self.state}")
        self._link.send(command)

    async def stop(self) -> None:
        """Ask it to exit, then SIGTERM, then SIGKILL, each after the grace; returns when the process is gone.

        One that runs is draining as soon as this is called: what is loaded from then on waits for the next process.
        """
        self._stop_asked.set()
        if self._spawning is not None and not self._spawning.done():
            await asyncio.wait([self._spawning])
        if self.state in ("starting", "ready"):
            self._move(WorkerEvent.DRAIN)
            with suppress(WorkerDied):
                self.send(Shutdown())
        if self.state == "draining":
            await self._see_out()

    async def _see_out(self) -> None:
        assert self._life is not None
        for number in (signal.SIGTERM, signal.SIGKILL):
            done, _ = await asyncio.wait([self._life], timeout=self._settings.kill_grace_s)
            if done:
                return
            logger.warning("worker ignores the order to exit", extra={"worker": self.id, "signal": number.name})
            self._signal(number)
        await asyncio.wait([self._life])

    def kill(self, reason: str) -> None:
        """End a hung process now; its death is reported to the owner with the first `reason` that was given. SIGKILL
        ends stopped ones too."""
        self._kill_reason = self._kill_reason or reason
        self._signal(signal.SIGKILL)

    def silent_s(self) -> float | None:
        """Seconds since its last word; None while there is no process that owes one."""
        if self.state not in ("ready", "draining") or self.last_notice_at is None:
            return None
        return self._settings.clock() - self.last_notice_at

    def status(self) -> WorkerStatus:
        return WorkerStatus(
            id=self.id,
            state=self.state,
            devices=list(self.devices),
            pid=self.pid,
            rss_bytes=self.rss_bytes,
            restarts=self.restarts,
            load_cycles=self.load_cycles,
            heartbeat_age_s=self.silent_s(),
            exit_code=self.exit_code,
            log_tail=self.log_tail if self.state == "dead" else [],
        )

    @property
    def log_tail(self) -> list[str]:
        return self._log.lines

    # ---- the process's life

    async def _start(self) -> None:
        await self._pause()
        # A task of its own: a start that nobody waits for any more must not leave a process behind.
        self._spawning = asyncio.create_task(self._spawn(), name=f"spawn-{self.id}")
        await asyncio.shield(self._spawning)
        assert self._announced is not None
        try:
            async with asyncio.timeout(_START_S):
                await self._announced
        except TimeoutError:
            self.kill(f"no word within {_START_S:.0f} s of its start")
            raise WorkerDied(f"worker {self.id} did not start within {_START_S:.0f} s") from None

    async def _pause(self) -> None:
        """The back-off after a death; cut short, with WorkerDied, when it is to stop meanwhile."""
        pause_s = self._died_at + backoff_s(self._deaths) - self._settings.clock()
        if self.state == "dead" and pause_s > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stop_asked.wait()
        if self._stop_asked.is_set():
            raise WorkerDied(f"worker {self.id} is stopping")

    async def _spawn(self) -> None:
        self._announced = asyncio.get_running_loop().create_future()
        self._announced.add_done_callback(_retrieved)
        self._kill_reason = ""
        try:
            self._process, ours = await self._forked()
        except OSError as error:  # no process or descriptor to be had, or the program has been moved away
            raise WorkerDied(f"worker {self.id} can't be started: {error}") from error
        self._move(WorkerEvent.SPAWNED)
        self.pid, self.exit_code, self._log, self.load_cycles = self._process.pid, None, LogTail(), 0
        _prefer_to_kill(self.pid)
        self._link = await connect(ours, self._on_notice, self._on_close)
        self._life = asyncio.create_task(self._live(self._process), name=f"worker-{self.id}")

    async def _forked(self) -> tuple[asyncio.subprocess.Process, socket.socket]:
        """The new process, and our end of the socketpair whose other end it has. Raises OSError."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._settings.command(theirs.fileno()),
                    pass_fds=(theirs.fileno(),),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.STDOUT,
                    env={**os.environ, **self._settings.environment},
                    start_new_session=True,  # Ctrl-C is the parent's to interpret: it drains first
                )
            except OSError:
                ours.close()
                raise
        return process, ours

    async def _live(self, process: asyncio.subprocess.Process) -> None:
        """Reads the log until the process is gone, then reports."""
        assert process.stdout is not None
        while data := await process.stdout.read(65536):
            for line in self._log.feed(data):
                logger.debug("llama.cpp: %s", line, extra={"worker": self.id})
        self._on_exit(await process.wait())

    def _on_notice(self, notice: RelayedNotice) -> None:
        self.last_notice_at = self._settings.clock()
        match notice:
            case Ready():
                self._on_ready(notice)
            case Heartbeat():
                self.rss_bytes = notice.rss_bytes
        self._owner.on_notice(self, notice)

    def _on_ready(self, notice: Ready) -> None:
        if self.state != "starting":
            return
        self._move(WorkerEvent.ANNOUNCED)
        self._ready_at = self._settings.clock()
        self.llama_cpp, self.gpu_names = notice.llama_cpp, notice.devices
        assert self._announced is not None
        if not self._announced.done():
            self._announced.set_result(None)
        logger.info("worker ready", extra={"worker": self.id, "pid": notice.pid, "sees": notice.devices})

    def _on_close(self, error: Exception | None) -> None:
        """A worker whose link is broken can't be spoken to: it has to go, if it isn't going already."""
        self._link = None
        if error is not None:
            self.kill(f"its link broke: {error}")

    def _on_exit(self, code: int) -> None:
        asked = self.state == "draining"
        self._move(WorkerEvent.EXITED)
        self.exit_code, self.pid, self.rss_bytes, self.last_notice_at = code, None, 0, None
        if self._link is not None:
            self._link.close()
            self._link = None
        if asked:
            self._deaths = 0
            logger.info("worker stopped", extra={"worker": self.id, "exit_code": code})
            return
        self._on_death(code)

    def _on_death(self, code: int) -> None:
        now = self._settings.clock()
        steady = self._ready_at and now - self._ready_at > _STEADY_S
        self._deaths = 1 if steady else self._deaths + 1
        self._died_at, self._ready_at = now, 0.0
        self.restarts += 1
        reason = f"worker {self.id} {self._kill_reason or 'died'} ({_exit_word(code)})"
        logger.error("worker died", extra={"worker": self.id, "reason": reason, "log": self.log_tail[-5:]})
        if self._announced is not None and not self._announced.done():
            self._announced.set_exception(WorkerDied(reason))
        self._owner.on_death(self, reason)

    def _move(self, event: WorkerEvent) -> None:
        self.state = next_state(self.state, event)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                # Not by the process object: asyncio's first looks whether the process has ended, and takes the exit
                # code of one that just has away from whoever waits for it, who is then told 255.
                os.kill(self._process.pid, number)


def _exit_word(code: int) -> str:
    if code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"


def _prefer_to_kill(pid: int) -> None:
    """When the host runs out of memory the kernel should take a worker, never the daemon."""
    with suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("500")


def _retrieved(future: asyncio.Future[None]) -> None:
    """Marks a failed start as seen even when whoever waited for it has been cancelled."""
    if not future.cancelled():
        future.exception()
