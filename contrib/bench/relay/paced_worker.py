"""A worker that decodes nothing: one frame a step, an event in it for every running request, over the real socket.

    python paced_worker.py FD INTERVAL_MS BUSY_THREADS

A neuron's parent takes it for an engine (`road.py` starts one so). Its busy threads read through memory without end, as
an engine reads weights: what else runs on these cores finds its caches cold.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
import time

import msgspec
import numpy as np

from cortex.wire.events import ChoiceFinished, Event, Finished, Started, TextDelta, Usage
from cortex.wire.framing import FrameDecoder, encode_frame
from cortex.wire.inference import InferenceRequest
from cortex.wire.worker import (
    Cancel,
    Command,
    Emission,
    Emissions,
    EngineModelStats,
    Heartbeat,
    Load,
    Loaded,
    Notice,
    Ready,
    Shutdown,
    Submit,
)

PROMPT_TOKENS = 8
HEARTBEAT_S = 0.5
WEIGHTS_BYTES = 100_000_000


class PacedWorker:
    def __init__(self, sock: socket.socket, interval_s: float) -> None:
        self._sock = sock
        self._interval_s = interval_s
        self._commands: FrameDecoder[Command] = FrameDecoder(msgspec.msgpack.Decoder(Command))
        self._left: dict[str, int] = {}
        self._asked: dict[str, int] = {}
        self._model = ""
        self._beat_at = 0.0

    def run(self) -> None:
        self._say(Ready(os.getpid(), ["CPU"]))
        step_at = time.monotonic()
        while self._obey_until(step_at):
            self._step()
            self._beat()
            step_at = max(step_at + self._interval_s, time.monotonic())

    def _say(self, notice: Notice) -> None:
        self._sock.sendall(encode_frame(notice))

    def _obey_until(self, moment: float) -> bool:
        """Whether to go on."""
        while True:
            readable, _, _ = select.select([self._sock], [], [], max(0.0, moment - time.monotonic()))
            if not readable:
                return True
            data = self._sock.recv(1 << 20)
            commands = self._commands.feed(data)
            if not data or any(isinstance(command, Shutdown) for command in commands):
                return False
            for command in commands:
                self._obey(command)

    def _obey(self, command: Command) -> None:
        match command:
            case Load(spec):
                self._model = spec.model
                self._say(Loaded(spec.model, spec.context, spec.context, spec.parallel, 0.0))
            case Submit(InferenceRequest() as request):
                self._left[request.id] = self._asked[request.id] = request.max_output or 16
                self._say(Emissions([Emission.of(request.id, [Started(PROMPT_TOKENS)])]))
            case Cancel(request_id):
                self._left.pop(request_id, None)

    def _step(self) -> None:
        items = [Emission.of(request_id, self._events(request_id, left)) for request_id, left in self._left.items()]
        self._left = {request_id: left - 1 for request_id, left in self._left.items() if left > 1}
        if items:
            self._say(Emissions(items))

    def _events(self, request_id: str, left: int) -> list[Event]:
        word = TextDelta(f"word{left % 50} ")
        if left > 1:
            return [word]
        return [word, ChoiceFinished("stop"), Finished(Usage(PROMPT_TOKENS, 0, self._asked.pop(request_id)))]

    def _beat(self) -> None:
        if self._model and time.monotonic() - self._beat_at > HEARTBEAT_S:
            self._beat_at = time.monotonic()
            self._say(Heartbeat([EngineModelStats(self._model, 4096, running=len(self._left), canaries=1)]))


def read_weights() -> None:
    weights = np.ones(WEIGHTS_BYTES // 4, np.float32)
    while True:
        weights.max()


if __name__ == "__main__":
    for _ in range(int(sys.argv[3])):
        threading.Thread(target=read_weights, daemon=True).start()
    PacedWorker(socket.socket(fileno=int(sys.argv[1])), float(sys.argv[2]) / 1000).run()
