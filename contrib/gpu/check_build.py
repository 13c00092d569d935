#!/usr/bin/env python3
"""Check that llama.cpp's CUDA backend configures and compiles for one architecture, without building all of it.

Needs nvcc, no GPU and no driver. Configures llama-cpp-python's vendored llama.cpp with the flags that
contrib/llama/build_wheel.py would use, then compiles a few CUDA objects: the matrix-vector kernels that every
decode runs on, and the tensor-parallel collectives. A full build takes the better part of an hour on two cores.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "llama"))
import build_wheel

OBJECTS = ("mmvq.cu", "rope.cu", "argmax.cu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cuda-arch", default="89", help="one CUDA architecture: 86, 89, 90 or 120")
    parser.add_argument("--configure-only", action="store_true", help="check the configuration, compile nothing")
    arguments = parser.parse_args()
    if shutil.which("nvcc") is None:
        sys.exit("check_build: nvcc was not found; install the CUDA toolkit (no GPU is needed)")
    with tempfile.TemporaryDirectory(prefix="cortex-cuda-") as directory:
        build = configure(Path(directory), arguments.cuda_arch)
        if not arguments.configure_only:
            compile_objects(build)
    print(f"check_build: llama.cpp {build_wheel.pinned_version()} is fine for CUDA architecture {arguments.cuda_arch}")


def configure(directory: Path, architecture: str) -> Path:
    """Unpack the cached source distribution, run CMake and return the build directory."""
    version = build_wheel.pinned_version()
    with tarfile.open(build_wheel.ensure_sdist(version)) as archive:
        archive.extractall(directory, filter="data")
    source = directory / f"llama_cpp_python-{version}" / "vendor" / "llama.cpp"
    build = directory / "build"
    flags = build_wheel.cmake_flags([architecture], portable=True)
    extra = ["-DLLAMA_CURL=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_TOOLS=OFF"]
    run("cmake", "-S", source, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", *flags, *extra)
    return build


def compile_objects(build: Path) -> None:
    targets = subprocess.run(
        ["ninja", "-C", str(build), "-t", "targets", "all"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    names = [line.split(":", 1)[0] for line in targets]
    objects = [name for name in names if name.endswith(tuple(f"/{each}.o" for each in OBJECTS))]
    if len(objects) != len(OBJECTS):
        sys.exit(f"check_build: expected the objects {OBJECTS}, CMake knows {objects}; were the kernels renamed?")
    run("ninja", "-C", build, *objects)


def run(*command: str | Path) -> None:
    if subprocess.run([str(part) for part in command], check=False).returncode:
        sys.exit(
            f"check_build: failed: {' '.join(map(str, command))}\n(a whole toolkit is needed: nvcc, cudart, cuBLAS)"
        )


if __name__ == "__main__":
    main()
