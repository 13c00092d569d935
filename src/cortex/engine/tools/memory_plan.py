"""Prints the memory that a load would take: `python -m cortex.engine.tools.memory_plan`.

A JSON LoadSpec on standard input, a JSON MemoryPlan on standard output. llama.cpp can lay out a model and plan its
context without allocating (`no_alloc`), but reports the plan in its log only: buffers of tensors are 0 there, caches
have their whole size and compute buffers are given per device. Sizes of weights are in the GGUF's header.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable

import msgspec

from cortex.engine.llama.context import Context
from cortex.engine.llama.context_shape import context_shape
from cortex.engine.llama.library import LogTap, start_backend
from cortex.engine.llama.model import Model
from cortex.engine.tools.device_report import print_report
from cortex.errors import CortexError
from cortex.wire.reports import MemoryPlan
from cortex.wire.worker import LoadSpec

__all__ = ["main", "planned_sizes", "read_plan"]

_MIB = 1024 * 1024
_CACHE = re.compile(r": size =\s*([\d.]+) MiB \(\s*\d+ cells")
_COMPUTE = re.compile(r"\s(\S+) compute buffer size\s*=\s*([\d.]+) MiB")
_OUTPUT = re.compile(r"output buffer size\s*=\s*([\d.]+) MiB")


def read_plan(lines: Iterable[str]) -> MemoryPlan:
    """The sums in bytes of what llama.cpp's log reports of one planned context. Pure."""
    compute: Counter[str] = Counter()
    cache = output = 0.0
    for line in lines:
        if found := _CACHE.search(line):
            cache += float(found[1])
        elif found := _COMPUTE.search(line):
            compute[found[1]] += int(float(found[2]) * _MIB)
        elif found := _OUTPUT.search(line):
            output += float(found[1])
    return MemoryPlan(dict(compute), int(cache * _MIB), int(output * _MIB))


def planned_sizes(spec: LoadSpec) -> MemoryPlan:
    """Plan the context of `spec`, on one thread. Raises ModelLoadFailed or NoRoom if llama.cpp can't."""
    lines: list[str] = []
    tap = LogTap(on_line=lines.append)
    tap.install()
    start_backend()
    model = Model.plan(spec, tap)
    context = Context(model, spec, context_shape(spec, model, 1), tap)
    report = read_plan(lines)
    context.close()
    model.close()
    return report


def main() -> int:
    try:
        spec = msgspec.json.decode(sys.stdin.buffer.read(), type=LoadSpec)
        print_report(lambda: planned_sizes(spec))
    except (CortexError, msgspec.DecodeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
