"""A real worker process driven over its socketpair, for tests: commands in, notices out, every wait with a deadline."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from cortex.wire.events import ChoiceFinished, Event, Failed, Finished, ReasoningDelta, Started, TextDelta
from cortex.wire.framing import FrameDecoder, encode_frame
from cortex.wire.inference import InferenceRequest, Message, Request, Sampling, Text
from cortex.wire.worker import Command, Emissions, Load, Loaded, LoadFailed, LoadSpec, Notice, Ready, Submit

T = TypeVar("T")
GREEDY = Sampling(temperature=0.0)


class WorkerProcess:
    """Use as a context manager; `events[request_id]` collects what each request has got so far."""

    def __init__(self, *flags: str) -> None:
        self.parent, child = socket.socketpair()
        command = [sys.executable, "-m", "cortex.engine.worker", "--fd", str(child.fileno()), *flags]
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - a pipe that nobody reads would stop a worker in the end
        self.process = subprocess.Popen(command, pass_fds=[child.fileno()], stderr=self._log)
        child.close()
        self.events: dict[str, list[Event]] = {}
        self.arrived: dict[str, list[float]] = {}
        self.notices: list[Notice] = []
        self._decoder: FrameDecoder[Notice] = FrameDecoder(msgspec.msgpack.Decoder(Notice))

    def __enter__(self) -> WorkerProcess:
        self.wait(Ready)
        return self

    def __exit__(self, *_: object) -> None:
        self.parent.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()

    def send(self, *commands: Command) -> None:
        """All in one write: the worker has read the last when it acts on the first."""
        self.parent.sendall(b"".join(map(encode_frame, commands)))

    def read(self, timeout_s: float) -> bool:
        """Read what comes next; False at end of file."""
        self.parent.settimeout(timeout_s)
        data = self.parent.recv(1 << 18)
        for notice in self._decoder.feed(data):
            self.notices.append(notice)
            if isinstance(notice, Emissions):
                for item in notice.items:
                    self.events.setdefault(item.request_id, []).extend(item.events)
                    self.arrived.setdefault(item.request_id, []).append(time.monotonic())
        return bool(data)

    def until(self, fact: Callable[[], T | None], deadline_s: float = 60.0) -> T:
        """Read until `fact()` is true, and return it."""
        end = time.monotonic() + deadline_s
        while not (found := fact()):
            left = end - time.monotonic()
            assert left > 0, f"not within {deadline_s} s: {self.notices[-3:]}"
            assert self.read(left), f"the worker ended: {self.stderr()}"
        return found

    def wait(self, kind: type[T], deadline_s: float = 60.0) -> T:
        """The next notice of `kind`, which is taken out of `notices`."""

        def first() -> T | None:
            found = next((notice for notice in self.notices if isinstance(notice, kind)), None)
            if found is not None:
                self.notices.remove(found)  # type: ignore[arg-type]
            return found

        return self.until(first, deadline_s)

    def stderr(self) -> str:
        self.process.wait(60)
        self._log.seek(0)
        return self._log.read()

    def load(self, spec: LoadSpec) -> Loaded:
        self.send(Load(spec))
        outcome = self.until(
            lambda: next(
                (n for n in self.notices if isinstance(n, Loaded | LoadFailed) and n.model == spec.model), None
            )
        )
        assert isinstance(outcome, Loaded), outcome
        return outcome

    def submit(self, request: Request) -> str:
        self.send(Submit(request))
        return request.id

    def ended(self, request_id: str) -> bool:
        events = self.events.get(request_id, [])
        return bool(events) and isinstance(events[-1], Finished | Failed)

    def finish(self, *request_ids: str, deadline_s: float = 120.0) -> None:
        self.until(lambda: all(self.ended(name) for name in request_ids), deadline_s)

    def run(self, request: Request) -> list[Event]:
        self.finish(self.submit(request))
        return self.events[request.id]


def raw(name: str, prompt: str | list[int], **fields: Any) -> InferenceRequest:
    fields.setdefault("sampling", GREEDY)
    return InferenceRequest(id=name, model=fields.pop("model", "m"), prompt=prompt, **fields)


def chat(name: str, text: str, **fields: Any) -> InferenceRequest:
    fields.setdefault("sampling", GREEDY)
    messages = [Message("user", [Text(text)])]
    return InferenceRequest(id=name, model=fields.pop("model", "m"), messages=messages, **fields)


def text_of(events: list[Event], choice: int = 0) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta) and event.choice == choice)


def reasoning_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, ReasoningDelta))


def only(events: list[Event], kind: type[T]) -> T:
    found = [event for event in events if isinstance(event, kind)]
    assert len(found) == 1, events
    return found[0]


def check_order(events: list[Event]) -> None:
    """Started comes first (but for progress), and one terminal event, last."""
    assert isinstance(events[-1], Finished | Failed)
    assert sum(isinstance(event, Finished | Failed) for event in events) == 1
    if isinstance(events[-1], Finished):
        kinds = [type(event) for event in events]
        assert kinds.count(Started) == 1
        assert kinds.index(Started) < kinds.index(ChoiceFinished) if ChoiceFinished in kinds else True
