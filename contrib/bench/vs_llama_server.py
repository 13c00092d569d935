"""Compare cortex (gateway and neuron) with llama.cpp's llama-server: same commit, model, threads and workloads.

    python contrib/bench/vs_llama_server.py [MODEL.gguf] [--pairs 5] [--threads 2] [--only decode-8] [--write FILE]

Without MODEL the demo model is used. llama-server is built once, from the source distribution of the installed
llama-cpp-python, into the cache. Each pair runs one scenario on one server and then on the other; which one is first
alternates. The ratio is the median over the pairs of cortex ÷ llama-server. Nothing else should use the CPU meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from cortex.bench.client import run_workload
from cortex.bench.statistics import Summary, summarise
from cortex.bench.workload import Workload
from cortex.cli.up_config import demo_profile

SLOTS = 16
CONTEXT = 4096
MODEL = "bench"
WORDS_2K = 1400
"""So many words of the generator are about 2,000 tokens of SmolLM2."""


@dataclass(frozen=True)
class Scenario:
    """A workload and the rows of the table that it gives; `bar` is the ratio to reach."""

    name: str
    workload: Workload
    rows: list[tuple[str, str, str, str]]  # label, group, field of Summary, bar


def decode(streams: int, bar: str, rounds: int = 2) -> Scenario:
    workload = Workload(kind="decode", model=MODEL, concurrency=streams, requests=streams * rounds)
    rows = [(f"decode tok/s, {streams} streams", "all", "tokens_per_second", f"≥ {bar}")]
    if streams == 8:
        rows += [
            ("TTFT p50, 8 streams", "all", "ttft_p50_ms", "≤ 1.0"),
            ("TTFT p99, 8 streams", "all", "ttft_p99_ms", "≤ 1.0"),
        ]
    return Scenario(f"decode-{streams}", workload, rows)


SCENARIOS = [
    decode(1, "1.00", rounds=3),
    decode(4, "1.10"),
    decode(8, "1.15"),
    decode(16, "1.15"),
    Scenario(
        "arrivals",
        Workload(kind="arrivals", model=MODEL, concurrency=4, requests=3, prompt_words=WORDS_2K, output_tokens=900),
        [
            ("inter-token p99 of 4 streams while 2k prompts arrive", "stream", "gap_p99_ms", "≤ 0.4"),
            ("TTFT p50 of those prompts", "arrival", "ttft_p50_ms", "≤ 1.3"),
        ],
    ),
    Scenario(
        "shared-prefix",
        Workload(kind="shared-prefix", model=MODEL, requests=8, prompt_words=WORDS_2K, output_tokens=16),
        [("TTFT p50 of 8 requests sharing 2k tokens", "all", "ttft_p50_ms", "≤ 0.35")],
    ),
    Scenario(
        "multi-turn",
        Workload(kind="multi-turn", model=MODEL, concurrency=8, turns=10, prompt_words=30, output_tokens=48),
        [
            ("TTFT p50 on turn 10 of 8 conversations", "turn 10", "ttft_p50_ms", "≤ 1.0"),
            ("cached share on turn 10 (cortex alone)", "turn 10", "cached_share", "≥ 0.95"),
        ],
    ),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?", help="a GGUF file; default: the demo model")
    parser.add_argument("--pairs", type=int, default=5, help="measurements of each server per scenario")
    parser.add_argument("--threads", type=int, default=2, help="of each server")
    parser.add_argument("--only", nargs="+", choices=[scenario.name for scenario in SCENARIOS], help="scenarios to run")
    parser.add_argument("--write", type=Path, help="put the table between the markers in this file")
    options = parser.parse_args()
    model = (options.model or demo_model()).resolve()
    binary = ensure_llama_server()
    chosen = [scenario for scenario in SCENARIOS if not options.only or scenario.name in options.only]
    lines = ["| workload | bar | cortex | llama-server | ratio (median of pairs) |", "|---|---|---|---|---|"]
    print("\n".join(lines), flush=True)
    for scenario in chosen:
        for line in compare(scenario, binary, model, options.threads, options.pairs):
            lines.append(line)
            print(line, flush=True)
    if options.write:
        write_table(options.write, lines)


def demo_model() -> Path:
    profile = demo_profile()
    if profile is None or profile.file is None:
        raise SystemExit("the demo model is not installed (make venv); name a GGUF file")
    return Path(profile.file)


def compare(scenario: Scenario, binary: Path, model: Path, threads: int, pairs: int) -> list[str]:
    """Run `scenario` on both servers, `pairs` times each, and return its rows of the table."""
    ours: list[list[Summary]] = []
    theirs: list[list[Summary]] = []
    parents_us: list[float] = []
    for pair in range(pairs):
        for side in ("cortex", "llama") if pair % 2 == 0 else ("llama", "cortex"):
            if side == "cortex":
                with cortex(model, threads) as server:
                    before = server.parents_cpu_s()
                    summaries = measure(server.url, scenario)
                    tokens = sum(summary.completion_tokens for summary in summaries)
                    parents_us.append((server.parents_cpu_s() - before) / max(tokens, 1) * 1e6)
                    ours.append(summaries)
            else:
                with llama_server(binary, model, threads) as server:
                    theirs.append(measure(server.url, scenario))
    rows = [
        row_of(label, bar, values_of(ours, group, field), values_of(theirs, group, field))
        for label, group, field, bar in scenario.rows
    ]
    if scenario.name == "decode-8":
        rows.append(
            f"| CPU of gateway + neuron parent, µs per token | ≤ 150 | {statistics.median(parents_us):.0f} | | |"
        )
    return rows


def measure(url: str, scenario: Scenario) -> list[Summary]:
    """Send one request to warm up, then run the workload. Exits if a request failed."""
    asyncio.run(run_workload(url, Workload(model=MODEL, concurrency=1, requests=1, output_tokens=8, seed=99)))
    outcomes = asyncio.run(run_workload(url, scenario.workload))
    failed = [outcome.error for outcome in outcomes if outcome.error]
    if failed:
        raise SystemExit(f"{scenario.name}: {len(failed)} requests failed, the first with: {failed[0]}")
    return summarise(outcomes)


def values_of(runs: list[list[Summary]], group: str, field: str) -> list[float]:
    return [float(getattr(summary, field)) for run in runs for summary in run if summary.group == group]


def row_of(label: str, bar: str, ours: list[float], theirs: list[float]) -> str:
    ratios = [a / b for a, b in zip(ours, theirs, strict=True) if b]
    ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""
    return f"| {label} | {bar} | {statistics.median(ours):.4g} | {statistics.median(theirs):.4g} | {ratio} |"


# ---- the servers


@dataclass(frozen=True)
class Server:
    url: str
    process: psutil.Process

    def parents_cpu_s(self) -> float:
        """CPU seconds of the server's processes without cortex's workers."""
        family = [self.process, *self.process.children(recursive=True)]
        return sum(sum(one.cpu_times()[:2]) for one in family if "cortex.engine.worker" not in one.cmdline())


@contextmanager
def cortex(model: Path, threads: int) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        (home / "models.toml").write_text(
            f'[[models]]\nid = "{MODEL}"\nfile = {json.dumps(str(model))}\ncontext = {CONTEXT}\n'
            f"parallel = {SLOTS}\nthreads = {threads}\nprompt_lookup = false\n"
        )
        gateway, neuron = free_port(), free_port()
        (home / "cortex.toml").write_text(
            f'models = "models.toml"\n[gateway]\nlisten = "127.0.0.1:{gateway}"\nmetrics_listen = "127.0.0.1:0"\n'
            f"[admission]\nin_flight = {2 * SLOTS}\nqueue = 64\nper_principal = {4 * SLOTS}\n"
            f'[neuron]\nlisten = "127.0.0.1:{neuron}"\ngpus = "none"\ndefault_models = ["{MODEL}"]\n'
            f'state_dir = "{home}/state"\nhuggingface_cache = false\nmodel_dirs = []\n[log]\nlevel = "warning"\n'
        )
        command = [sys.executable, "-m", "cortex", "up", "--config", str(home / "cortex.toml")]
        with running(command, f"http://127.0.0.1:{gateway}", home / "log") as server:
            yield server


@contextmanager
def llama_server(binary: Path, model: Path, threads: int) -> Iterator[Server]:
    port = free_port()
    command = [str(binary), "-m", str(model), "--port", str(port), "-np", str(SLOTS), "-c", str(SLOTS * CONTEXT)]
    command += ["-t", str(threads), "-tb", str(threads), "-a", MODEL, "--no-webui"]
    with (
        tempfile.TemporaryDirectory() as directory,
        running(command, f"http://127.0.0.1:{port}", Path(directory) / "log") as server,
    ):
        yield server


@contextmanager
def running(command: list[str], url: str, log: Path) -> Iterator[Server]:
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:
        try:
            wait_until_ready(url, process, log)
            yield Server(url, psutil.Process(process.pid))
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path, deadline_s: float = 120.0) -> None:
    """Until a chat request is answered: a server may listen long before its model is loaded."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    end = time.monotonic() + deadline_s
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.3)
    raise SystemExit(f"{command_of(process)} does not answer:\n{log.read_text(errors='replace')[-3000:]}")


def command_of(process: subprocess.Popen[bytes]) -> str:
    return " ".join(str(part) for part in process.args) if isinstance(process.args, list) else str(process.args)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ---- llama-server, built once


def ensure_llama_server() -> Path:
    cache = Path(os.environ.get("CORTEX_CACHE") or Path.home() / ".cache" / "cortex")
    build = cache / "llama-server" / "build"
    binary = build / "bin" / "llama-server"
    if binary.exists():
        return binary
    version = importlib.metadata.version("llama-cpp-python")
    with tarfile.open(source_distribution(cache, version)) as archive:
        archive.extractall(cache / "llama-server", filter="data")
    source = cache / "llama-server" / f"llama_cpp_python-{version}" / "vendor" / "llama.cpp"
    off = [f"-DLLAMA_{name}=OFF" for name in ("CURL", "BUILD_TESTS", "BUILD_EXAMPLES")]
    run = ["nice", "-n", "10", "cmake"]
    subprocess.run([*run, "-G", "Ninja", "-S", source, "-B", build, "-DCMAKE_BUILD_TYPE=Release", *off], check=True)
    subprocess.run([*run, "--build", build, "--target", "llama-server"], check=True)
    return binary


def source_distribution(cache: Path, version: str) -> Path:
    """The cached one, or from PyPI: its llama.cpp is the commit of the installed library."""
    place = cache / "sdist"
    path = place / f"llama_cpp_python-{version}.tar.gz"
    if not path.exists():
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "-d", place]
        subprocess.run([*command, f"llama-cpp-python=={version}"], check=True)
    return path


# ---- the table


def write_table(path: Path, lines: list[str]) -> None:
    """Replace the text between the markers in `path`."""
    begin, end = "<!-- vs-llama-server -->", "<!-- end -->"
    text = path.read_text()
    if begin not in text or end not in text:
        raise SystemExit(f"{path} has no {begin} … {end} to put the table into")
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    path.write_text("\n".join([head + begin, *lines, end + tail]))


if __name__ == "__main__":
    main()
