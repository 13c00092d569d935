"""Asking a short-lived process what only llama.cpp knows: which devices there are, what a load would allocate.

The parent never loads llama.cpp. A probe that fails, hangs or talks nonsense costs its answer and nothing else.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from cortex.neuron.workers.command import engine_command
from cortex.wire.probes import DeviceReport, SizeReport
from cortex.wire.worker import LoadSpec

__all__ = ["DEVICE_PROBE", "SIZE_PROBE", "ProbeFailed", "probe_devices", "probe_size"]

T = TypeVar("T", bound=msgspec.Struct)

DEVICE_PROBE = engine_command("tools.device_report")
SIZE_PROBE = engine_command("tools.memory_plan")
_DEADLINE_S = 60.0
"""Importing llama.cpp and opening a GPU's driver on a cold disk takes tens of seconds."""


class ProbeFailed(Exception):
    """No answer; the message holds the reason, with the process's last words where it had any."""


def probe_devices(command: Sequence[str] = DEVICE_PROBE, deadline_s: float = _DEADLINE_S) -> DeviceReport:
    """The devices that llama.cpp sees. Blocks: for the start, before there is a loop. Raises ProbeFailed."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=deadline_s, check=False)  # noqa: S603 - our own program
    except subprocess.TimeoutExpired:
        raise ProbeFailed(f"no answer within {deadline_s:.0f} s") from None
    except OSError as error:
        raise ProbeFailed(str(error)) from error
    return _answer(done.returncode, done.stdout, done.stderr, DeviceReport)


async def probe_size(
    spec: LoadSpec,
    environment: Mapping[str, str],
    command: Sequence[str] = SIZE_PROBE,
    deadline_s: float = _DEADLINE_S,
) -> SizeReport:
    """What loading `spec` would allocate, `environment` (over ours) choosing the devices. Raises ProbeFailed."""
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=pipe, env={**os.environ, **environment}, start_new_session=True
        )
    except OSError as error:
        raise ProbeFailed(str(error)) from error
    try:
        async with asyncio.timeout(deadline_s):
            out, errors = await process.communicate(msgspec.json.encode(spec))
    except TimeoutError:
        raise ProbeFailed(f"no answer within {deadline_s:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return _answer(process.returncode, out, errors, SizeReport)


def _answer(code: int, out: bytes, errors: bytes, type_: type[T]) -> T:
    words = " | ".join(errors.decode(errors="replace").strip().splitlines()[-3:])
    if code:
        raise ProbeFailed(f"exit code {code}{': ' if words else ''}{words}")
    try:
        return msgspec.json.decode(out, type=type_)
    except msgspec.DecodeError as error:
        raise ProbeFailed(f"its answer can't be read: {error}") from error
