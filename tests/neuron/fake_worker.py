"""A worker process without llama.cpp: the real wire, and a behaviour for each word in a model's id or a prompt.

Model ids: `slow` loads in steps, `held` does so, too, but waits half-way until a file appears beside the model's,
`stall` never gets on, `bad` fails, `oom` finds no memory, `die` exits while loading, `gpu` tells of buffers on one,
`stubborn` makes the process ignore SIGTERM and Shutdown. Prompts: `wait` answers only after a file appears, `crash`
exits at once, `crash-once:FILE` exits unless FILE exists, `half` crashes after the first delta, `mute` stops all
heartbeats.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from pathlib import Path

import msgspec

from cortex.wire.events import ChoiceFinished, Event, Finished, Started, TextDelta, Usage
from cortex.wire.framing import FrameDecoder, encode_frame
from cortex.wire.worker import (
    Canary,
    Cancel,
    Command,
    Emission,
    Emissions,
    EngineModelStats,
    Heartbeat,
    Load,
    Loaded,
    LoadFailed,
    LoadProgress,
    LoadSpec,
    Notice,
    Probe,
    ProbeReport,
    Ready,
    RestoreState,
    SaveState,
    Shutdown,
    StateSaved,
    Submit,
    Unload,
    Unloaded,
)

MIB = 1024 * 1024


class FakeWorker:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.decoder = FrameDecoder(msgspec.msgpack.Decoder(Command))
        self.models: dict[str, int] = {}
        self.loading: dict[str, float] = {}
        self.gates: dict[str, Path] = {}
        self.buffers: dict[str, dict[str, int]] = {}
        self.waiting: dict[str, Path] = {}
        self.mute = self.stubborn = False
        self.beat_at = 0.0

    def say(self, notice: Notice) -> None:
        self.sock.sendall(encode_frame(notice))

    def run(self) -> None:
        self.say(Ready(pid=os.getpid(), devices=["CPU"], llama_cpp="fake"))
        while True:
            readable, _, _ = select.select([self.sock], [], [], 0.02)
            if readable:
                data = self.sock.recv(1 << 20)
                if not data:
                    return
                for command in self.decoder.feed(data):
                    if isinstance(command, Shutdown) and not self.stubborn:
                        return
                    self.obey(command)
            self.turn()

    def turn(self) -> None:
        for model, fraction in list(self.loading.items()):
            if "stall" in model or (fraction >= 0.5 and model in self.gates and not self.gates[model].exists()):
                continue
            self.loading[model] = fraction + 0.1
            self.say(LoadProgress(model, min(fraction + 0.1, 1.0)))
            if fraction + 0.1 >= 1.0:
                self.loaded(model)
        for request_id, path in list(self.waiting.items()):
            if path.exists():
                del self.waiting[request_id]
                self.emit(request_id, TextDelta("late"), ChoiceFinished("stop"), Finished(Usage(3, 0, 1)))
        if time.monotonic() - self.beat_at > 0.05 and not self.mute:
            self.beat_at = time.monotonic()
            stats = [EngineModelStats(model, 128, canaries=seen) for model, seen in self.models.items()]
            self.say(Heartbeat(stats, rss_bytes=1000 * len(self.models)))

    def obey(self, command: Command) -> None:
        match command:
            case Load(spec):
                self.load(spec)
            case Unload(model):
                self.models.pop(model, None)
                self.say(Unloaded(model))
            case Submit(request):
                self.submit(request.id, str(getattr(request, "prompt", "")))
            case Cancel(request_id):
                self.waiting.pop(request_id, None)
                print(f"cancelled {request_id}", file=sys.stderr, flush=True)
            case Canary(model):
                self.models[model] += 1
            case SaveState(model, directory):
                (Path(directory) / "prefixes").write_text(model)
                self.say(StateSaved(model, 1, 1))
            case RestoreState(model, directory):
                print(f"restored {saved_in(Path(directory))}", file=sys.stderr, flush=True)
            case Probe(model):
                self.say(ProbeReport(model, self_test="passed"))

    def load(self, spec: LoadSpec) -> None:
        print(f"loading {spec.model} context {spec.context}", file=sys.stderr, flush=True)
        self.buffers[spec.model] = buffers(spec)
        if "die" in spec.model:
            print("GGML_ASSERT: no mercy", file=sys.stderr, flush=True)
            os._exit(7)
        if "bad" in spec.model:
            self.say(LoadFailed(spec.model, "model_load_failed", "tensor 'x' is nonsense"))
        elif "oom" in spec.model:
            self.say(LoadFailed(spec.model, "no_room", "failed to allocate buffer for kv cache"))
        elif any(word in spec.model for word in ("slow", "held", "stall")):
            self.loading[spec.model] = 0.0
            if "held" in spec.model:
                self.gates[spec.model] = Path(f"{spec.path}.go")
        else:
            self.loaded(spec.model)
        if "stubborn" in spec.model:
            self.stubborn = True
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def loaded(self, model: str) -> None:
        self.loading.pop(model, None)
        self.models[model] = 0
        told = self.buffers[model]
        self.say(Loaded(model, context=64, kv_cells=128, parallel=2, seconds=0.01, bytes_by_device=told))

    def submit(self, request_id: str, prompt: str) -> None:
        word, _, rest = prompt.partition(":")
        self.emit(request_id, Started(3))
        if word == "crash" or (word == "crash-once" and not Path(rest).exists()):
            if rest:
                Path(rest).touch()
            os._exit(9)
        if word == "half":
            self.emit(request_id, TextDelta("ha"))
            os._exit(9)
        if word == "wait":
            self.waiting[request_id] = Path(rest)
            return
        if word == "mute":
            self.mute = True
            return
        self.emit(request_id, TextDelta(f"echo {prompt}"), ChoiceFinished("stop"), Finished(Usage(3, 0, 2)))

    def emit(self, request_id: str, *events: Event) -> None:
        self.say(Emissions([Emission(request_id, list(events))]))


def saved_in(directory: Path) -> str:
    try:
        return (directory / "prefixes").read_text()
    except FileNotFoundError:  # emptied by an unload that followed at once
        return "nothing"


def buffers(spec: LoadSpec) -> dict[str, int]:
    """As llama.cpp would report them; a model on virtual CPU devices tells of none."""
    if spec.rpc:
        return {"CPU": 10 * MIB} | {f"RPC0[{endpoint}]": 50 * MIB for endpoint in spec.rpc}
    return {"CUDA0": 100 * MIB, "CUDA_Host": MIB} if "gpu" in spec.model else {}


if __name__ == "__main__":
    FakeWorker(socket.socket(fileno=int(sys.argv[1]))).run()
