"""Runs the engine's short-lived programs that report what only llama.cpp knows: its devices, the memory of a load.

They are processes of their own, so that neither a crash of a driver nor the memory of its context is the daemon's. One
that fails, hangs or prints something else costs its report and nothing more.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from cortex.neuron.workers.spawn import python_command
from cortex.wire.reports import DeviceReport, MemoryPlan
from cortex.wire.worker import LoadSpec

__all__ = ["ReportFailed", "run_device_report", "run_memory_plan"]

T = TypeVar("T", bound=msgspec.Struct)

_DEVICE_REPORT = python_command("cortex.engine.tools.device_report")
_MEMORY_PLAN = python_command("cortex.engine.tools.memory_plan")
_DEADLINE_S = 60.0
"""Importing llama.cpp and opening a GPU's driver on a cold disk takes tens of seconds."""


class ReportFailed(Exception):
    """There is no report; the message has the reason and the last lines that the process printed to stderr."""


def run_device_report(command: Sequence[str] = _DEVICE_REPORT, deadline_s: float = _DEADLINE_S) -> DeviceReport:
    """The devices that llama.cpp sees. Blocks, so for the start alone. Raises ReportFailed."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=deadline_s, check=False)  # noqa: S603 - our own program
    except subprocess.TimeoutExpired:
        raise ReportFailed(f"no answer within {deadline_s:.0f} s") from None
    except OSError as error:
        raise ReportFailed(str(error)) from error
    return _decode(done.returncode, done.stdout, done.stderr, DeviceReport)


async def run_memory_plan(
    spec: LoadSpec,
    environment: Mapping[str, str],
    command: Sequence[str] = _MEMORY_PLAN,
    deadline_s: float = _DEADLINE_S,
) -> MemoryPlan:
    """What loading `spec` would allocate; `environment`, laid over ours, selects the devices. Raises ReportFailed."""
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=pipe, env={**os.environ, **environment}, start_new_session=True
        )
    except OSError as error:
        raise ReportFailed(str(error)) from error
    try:
        async with asyncio.timeout(deadline_s):
            out, errors = await process.communicate(msgspec.json.encode(spec))
    except TimeoutError:
        raise ReportFailed(f"no answer within {deadline_s:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return _decode(process.returncode, out, errors, MemoryPlan)


def _decode(code: int, out: bytes, errors: bytes, type_: type[T]) -> T:
    last_lines = " | ".join(errors.decode(errors="replace").strip().splitlines()[-3:])
    if code:
        raise ReportFailed(f"exit code {code}{': ' if last_lines else ''}{last_lines}")
    try:
        return msgspec.json.decode(out, type=type_)
    except msgspec.DecodeError as error:
        raise ReportFailed(f"its answer can't be read: {error}") from error
