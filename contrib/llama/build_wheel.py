#!/usr/bin/env python3
"""Build the llama-cpp-python wheel that cortex runs on, once per machine, and print its path.

The wheel is kept outside the checkout, in `$CORTEX_CACHE` or `${XDG_CACHE_HOME:-~/.cache}/cortex`, under a key made of
the version (pyproject.toml pins it), the CMake flags and this CPU: GGML_NATIVE compiles for this CPU's instructions,
and on a CPU without them such a wheel dies with SIGILL. It holds no Python-version-specific code. The source
distribution is kept too, since tests use its chat templates.

CUDA is compiled in if nvcc and a working NVIDIA driver are found, or with --cuda-arch. The RPC backend always is
(tensor parallelism across processes and hosts). OpenMP never is: its threads busy-wait, which costs most of the
decoding speed beside another busy process.

Standard library only: this runs before anything is installed.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PACKAGE = "llama-cpp-python"
FLAGS = ("-DGGML_RPC=ON", "-DGGML_OPENMP=OFF", "-DGGML_NATIVE=ON")


def main() -> None:
    parser = argparse.ArgumentParser(description="Build llama-cpp-python for this machine; prints the wheel's path.")
    parser.add_argument(
        "--cuda-arch", help="comma-separated CUDA architectures, e.g. 86,89; default: those of this machine"
    )
    parser.add_argument(
        "--portable", action="store_true", help="for any x86-64 with AVX2, not just this CPU (packages)"
    )
    parser.add_argument("--key", action="store_true", help="print the cache key instead, and build nothing")
    arguments = parser.parse_args()
    flags = cmake_flags(arguments.cuda_arch.split(",") if arguments.cuda_arch else None, portable=arguments.portable)
    version = pinned_version()
    key = cache_key(version, flags)
    print(key if arguments.key else ensure_wheel(version, flags, key))


def ensure_wheel(version: str, flags: Sequence[str], key: str) -> Path:
    """The cached wheel of `key`, built first if it is missing. Only one process builds at a time."""
    with _locked(cache_dir() / "build.lock"):
        sdist = ensure_sdist(version)
        target = cache_dir() / "wheels" / key
        if not (found := sorted(target.glob("*.whl"))):
            _build(sdist, flags, target)
            found = sorted(target.glob("*.whl"))
        return found[0]


def cache_dir() -> Path:
    if path := os.environ.get("CORTEX_CACHE"):
        return Path(path)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cortex"


def pinned_version(pyproject: Path = PROJECT / "pyproject.toml") -> str:
    """The one version cortex is written for: llama.cpp's C API changes without notice."""
    dependencies = tomllib.loads(pyproject.read_text())["project"]["dependencies"]
    pins = [match[1] for line in dependencies if (match := re.fullmatch(rf"{PACKAGE}==([\w.]+)", line))]
    if len(pins) != 1:
        sys.exit(f"{pyproject}: expected one dependency {PACKAGE}==VERSION")
    return str(pins[0])


def cmake_flags(cuda: Sequence[str] | None, *, portable: bool = False) -> list[str]:
    """CMake flags. `cuda` lists the architectures to compile for; None = this machine's, if it has any."""
    flags = list(FLAGS)
    if portable:
        flags[-1] = "-DGGML_NATIVE=OFF"
        if cuda is None:
            return flags
    elif cuda is None and _has_cuda():
        cuda = ["native"]
    if cuda:
        flags += ["-DGGML_CUDA=ON", f"-DCMAKE_CUDA_ARCHITECTURES={';'.join(cuda)}"]
    return flags


def cache_key(version: str, flags: Sequence[str]) -> str:
    """E.g. `0.3.36-cuda-1f0c…`; wheels with the same key have the same machine code."""
    portable = "-DGGML_NATIVE=OFF" in flags
    facts = [version, *flags, platform.machine(), "" if portable else _cpu()]
    kind = "cuda" if "-DGGML_CUDA=ON" in flags else "cpu"
    return f"{version}-{kind}-{hashlib.sha256('|'.join(facts).encode()).hexdigest()[:16]}"


def _cpu() -> str:
    """Model and instruction sets of this CPU, as the kernel names them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features", "CPU implementer", "CPU part")
    facts = {
        name.strip(): " ".join(sorted(value.split())) for name, _, value in (line.partition(":") for line in lines)
    }
    return "|".join(facts.get(name, "") for name in wanted)


def _has_cuda() -> bool:
    """Whether there are both nvcc, to build, and a driver, to run."""
    if shutil.which("nvcc") is None:
        return False
    if Path("/proc/driver/nvidia/version").exists():
        return True
    smi = shutil.which("nvidia-smi")
    return smi is not None and subprocess.run([smi, "-L"], capture_output=True, check=False).returncode == 0


def ensure_sdist(version: str) -> Path:
    """The source distribution, downloaded once by pip, which checks its hash."""
    target = cache_dir() / "sdist" / f"llama_cpp_python-{version}.tar.gz"
    if not target.exists():
        _say(f"fetching {PACKAGE} {version}")
        with _staging() as staging:
            _pip("download", "--no-deps", "--no-binary", PACKAGE, "--dest", str(staging), f"{PACKAGE}=={version}")
            _move(next(staging.glob("*.tar.gz")), target)
    return target


def _build(sdist: Path, flags: Sequence[str], target: Path) -> None:
    _say(f"building {sdist.name} with {' '.join(flags)}; this takes some minutes, once")
    with _staging() as staging:
        wheels = staging / "wheels"
        # pip's own wheel cache ignores CMake flags and may return a wheel that was built with others
        _pip("wheel", "--no-deps", "--no-cache-dir", "--wheel-dir", str(wheels), str(sdist), CMAKE_ARGS=" ".join(flags))
        _move(wheels, target)
    _say(f"built {target}")


def _pip(*arguments: str, **environment: str) -> None:
    """Run pip with its output on stderr, since stdout is for the wheel's path.

    Where cmake or ninja is missing, the package's build system has pip install it.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    if subprocess.run(command, env={**os.environ, **environment}, stdout=sys.stderr, check=False).returncode:
        sys.exit(f"failed: {shlex.join(command)}")


@contextmanager
def _staging() -> Iterator[Path]:
    """A directory inside the cache, so that moving out of it is one atomic rename."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir(), prefix=".staging-") as directory:
        yield Path(directory)


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock file: a second build would take the same memory again, so it waits and uses the first one's wheel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _say(text: str) -> None:
    print(f"build_wheel: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
