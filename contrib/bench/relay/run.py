"""What relaying costs: CPU per stream event and per request, added time to the first token; beside other routers.

    .venv/bin/python contrib/bench/relay/run.py [--peers DIR] [--rounds 3] [--profile FILE]

One fake upstream sends an event each 4 ms on each of 32 streams. Routers are measured by turns, each alone, in
rounds; the table gives medians. `--peers` is a virtual environment that has `vllm-router` and `litellm`; what isn't
there is left out. CPU is what the router's processes used, user and system, divided by what they relayed.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from load import requests, streams

HERE = Path(__file__).parent
STREAMS, EVENTS, REQUESTS, PROBES = 32, 500, 1600, 100


@dataclass(frozen=True)
class Figures:
    event_us: float
    request_us: float
    ttft_ms: float


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@contextmanager
def process(command: list[str], port: int, ready: str, log: Path) -> Iterator[psutil.Process]:
    """A server that answers on `port` before this yields, and is ended after."""
    with log.open("w") as output:
        child = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        wait_for(f"http://127.0.0.1:{port}{ready}", child, log)
        yield psutil.Process(child.pid)
    finally:
        child.terminate()
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def wait_for(url: str, child: subprocess.Popen[bytes], log: Path, within_s: float = 90) -> None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - a loopback URL of our own
                return
        except OSError as error:
            if child.poll() is not None:
                raise RuntimeError(f"{url}: ended with {child.returncode}\n{log.read_text()[-2000:]}") from error
            time.sleep(0.1)
    raise RuntimeError(f"{url}: not up within {within_s} s\n{log.read_text()[-2000:]}")


def cpu_s(process: psutil.Process) -> float:
    family = [process, *process.children(recursive=True)]
    return sum(times.user + times.system for times in (member.cpu_times() for member in family))


async def measure(port: int, router: psutil.Process) -> Figures:
    await streams(port, 4, 20)  # connections, caches and code paths warm
    await requests(port, 64)
    before = cpu_s(router)
    seen = await streams(port, STREAMS, EVENTS)
    event_us = (cpu_s(router) - before) / seen.events * 1e6
    before = cpu_s(router)
    done = await requests(port, REQUESTS)
    request_us = (cpu_s(router) - before) / done * 1e6
    first = [(await streams(port, 1, 2)).ttft_s[0] for _ in range(PROBES)]
    return Figures(event_us, request_us, statistics.median(first) * 1e3)


def cortex_command(directory: Path, port: int, upstream: int, profile: str | None) -> list[str]:
    config = directory / "cortex.toml"
    config.write_text(
        f'gateway = {{listen = "127.0.0.1:{port}", metrics_listen = "127.0.0.1:{free_port()}"}}\n'
        f'neurons = [{{name = "fake", endpoint = "http://127.0.0.1:{upstream}"}}]\n'
        'admission = {in_flight = 64, queue = 64}\nlog = {level = "warning"}\n'
    )
    profiler = ["-m", "cProfile", "-o", profile] if profile else []
    return [sys.executable, *profiler, "-m", "cortex", "gateway", "--config", str(config)]


def litellm_command(peers: Path, directory: Path, port: int, upstream: int) -> list[str]:
    config = directory / "litellm.yaml"
    config.write_text(
        "model_list:\n  - model_name: fake\n    litellm_params:\n      model: openai/fake\n"
        f"      api_base: http://127.0.0.1:{upstream}/v1\n      api_key: none\n"
        "general_settings:\n  dangerously_permit_weak_or_unset_master_key: true\n"
    )
    return [str(peers / "bin" / "litellm"), "--config", str(config), "--port", str(port), "--host", "127.0.0.1"]


def vllm_command(peers: Path, port: int, upstream: int) -> list[str]:
    return [
        *[str(peers / "bin" / "vllm-router"), "--host", "127.0.0.1", "--port", str(port)],
        *["--worker-urls", f"http://127.0.0.1:{upstream}", "--policy", "round_robin"],
        *["--prometheus-port", str(free_port())],
    ]


def routers(options: argparse.Namespace) -> dict[str, str]:
    """The routers to measure, with the path that tells that they are up."""
    found = {"cortex gateway": "/health"}
    if options.peers and (options.peers / "bin" / "vllm-router").exists():
        found["vllm-router"] = "/health"
    if options.peers and (options.peers / "bin" / "litellm").exists():
        found["litellm"] = "/health/liveliness"
    return found


def run_one(name: str, ready: str, upstream: int, options: argparse.Namespace, directory: Path) -> Figures:
    port = free_port()
    command = {
        "cortex gateway": lambda: cortex_command(directory, port, upstream, options.profile),
        "vllm-router": lambda: vllm_command(options.peers, port, upstream),
        "litellm": lambda: litellm_command(options.peers, directory, port, upstream),
    }[name]()
    with process(command, port, ready, directory / f"{name}.log") as router:
        return asyncio.run(measure(port, router))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", help="write a cProfile of the gateway here; its figures are then of no use")
    options = parser.parse_args()
    upstream = free_port()
    figures: dict[str, list[Figures]] = {}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        command = [sys.executable, str(HERE / "upstream.py"), "--port", str(upstream)]
        with process(command, upstream, "/health", directory / "upstream.log"):
            for _ in range(options.rounds):
                for router, ready in routers(options).items():
                    figures.setdefault(router, []).append(run_one(router, ready, upstream, options, directory))
            direct = [asyncio.run(streams(upstream, 1, 2)).ttft_s[0] * 1e3 for _ in range(PROBES)]
    print("| router | CPU per event, µs | CPU per request, µs | added TTFT p50, ms |\n|---|---|---|---|")
    for router, rounds in figures.items():
        event = statistics.median(item.event_us for item in rounds)
        request = statistics.median(item.request_us for item in rounds)
        added = statistics.median(item.ttft_ms for item in rounds) - statistics.median(direct)
        print(f"| {router} | {event:.0f} | {request:.0f} | {added:.2f} |")


if __name__ == "__main__":
    main()
