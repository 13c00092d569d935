"""The whole road of a token, without the engine: CPU of gateway and neuron parent per token.

    .venv/bin/python contrib/bench/relay/road.py MODEL.gguf [--streams 8] [--tokens 200] [--interval-ms 60] [--rounds 3]
        [--busy THREADS]

A real gateway before a real neuron, whose worker is `paced_worker.py`: a step each `--interval-ms` gives every running
stream a token. MODEL's header is read, its weights aren't. Nothing else computes meanwhile, so the parents' caches
stay warmer than beside an engine on the same cores; with `--busy` so many threads of the worker read memory all the
time, as such an engine does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from pathlib import Path

import psutil
import uvloop
from load import streams
from run import HERE, free_port, process

from cortex.config.loading import load_config
from cortex.config.profiles import Profile, Profiles
from cortex.neuron.app import Neuron

MODEL = "fake"


def serve_neuron(config: Path, model: str, *paces: str) -> None:
    """The neuron as `cortex neuron` runs it, but for its worker's command line."""
    profile = Profile(MODEL, file=model, context=4096, parallel=64)
    neuron = Neuron(load_config(config), Profiles(models=[profile]))
    neuron.registry.pool.command = lambda _name, _threads: (
        lambda fd: [sys.executable, str(HERE / "paced_worker.py"), str(fd), *paces]
    )
    uvloop.run(neuron.serve())


def write_configs(directory: Path, gateway: int, neuron: int) -> tuple[Path, Path]:
    quiet = '[log]\nlevel = "warning"\n'
    front, back = directory / "gateway.toml", directory / "neuron.toml"
    front.write_text(
        f'{quiet}[gateway]\nlisten = "127.0.0.1:{gateway}"\nmetrics_listen = "127.0.0.1:{free_port()}"\n'
        f'[[neurons]]\nname = "n"\nendpoint = "http://127.0.0.1:{neuron}"\n[admission]\nin_flight = 64\nqueue = 64\n'
    )
    back.write_text(
        f'{quiet}[neuron]\nlisten = "127.0.0.1:{neuron}"\ngpus = "none"\ndefault_models = ["{MODEL}"]\n'
        f"state_dir = {json.dumps(str(directory / 'state'))}\nhuggingface_cache = false\nmodel_dirs = []\n"
    )
    return front, back


def cpu_s(process: psutil.Process) -> float:
    """Of its own threads, without its children's. In nanoseconds from the scheduler: a tick is too coarse here."""
    threads = Path(f"/proc/{process.pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


async def measure(port: int, gateway: psutil.Process, neuron: psutil.Process, count: int, tokens: int) -> list[float]:
    """µs per token: the gateway's, the neuron parent's."""
    await streams(port, count, 20)
    before = cpu_s(gateway), cpu_s(neuron)
    seen = await streams(port, count, tokens)
    after = cpu_s(gateway), cpu_s(neuron)
    return [(late - early) / seen.events * 1e6 for early, late in zip(before, after, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--interval-ms", type=float, default=60.0)
    parser.add_argument("--busy", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    front, back = free_port(), free_port()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        gateway_config, neuron_config = write_configs(directory, front, back)
        paces = [str(options.model.resolve()), str(options.interval_ms), str(options.busy)]
        behind = [sys.executable, __file__, "--serve-neuron", str(neuron_config), *paces]
        before = [sys.executable, "-m", "cortex", "gateway", "--config", str(gateway_config)]
        with (
            process(behind, back, "/health", directory / "neuron.log") as neuron,
            process(before, front, "/health", directory / "gateway.log") as gateway,
        ):
            rounds = [
                asyncio.run(measure(front, gateway, neuron, options.streams, options.tokens))
                for _ in range(options.rounds)
            ]
    ours, theirs = (statistics.median(column) for column in zip(*rounds, strict=True))
    print("| gateway, µs per token | neuron parent, µs per token | both |\n|---|---|---|")
    print(f"| {ours:.0f} | {theirs:.0f} | {ours + theirs:.0f} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve-neuron"]:
        serve_neuron(Path(sys.argv[2]), *sys.argv[3:])
    else:
        main()
