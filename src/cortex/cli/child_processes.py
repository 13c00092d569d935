"""Runs the roles as child processes: starts them in order, passes SIGHUP on to them, stops them on a signal or when one
of them ends."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import httpx
from msgspec import Struct

from cortex.errors import Unavailable

__all__ = ["Role", "run_roles"]

START_S = 60.0
"""Longest time for a role to import its libraries and find its devices. Models load after that."""
KILL_S = 15.0
"""Time beyond its own drain time that a role gets before it is killed."""
_PR_SET_PDEATHSIG = 1


class Role(Struct, frozen=True):
    """A child process: its `arguments` to `python -m cortex`, and its URL, where /health answers once it serves."""

    name: str
    arguments: Sequence[str]
    url: str


class _RoleDied(Unavailable):
    """A role ended, or did not start, without a signal to stop."""


async def run_roles(
    roles: Sequence[Role], environment: Mapping[str, str], drain_s: float, on_up: Callable[[], Awaitable[None]]
) -> int:
    """Start `roles` in order, await `on_up`, and wait for SIGTERM, SIGINT or the end of one of them.

    SIGHUP makes them read their configuration again, unless it says that the terminal is gone: that stops them.
    They are stopped in reverse order: the gateway drains while its neuron still serves. A second signal ends running
    requests at once. Returns 0 after a signal, 1 if a role ended by itself.
    """
    running: list[tuple[Role, asyncio.subprocess.Process]] = []
    stop = _Stop(lambda: _send_to_all(running, signal.SIGHUP))
    try:
        for role in roles:
            running.append((role, await _start(role, environment)))
            if not await _wait_unless_stopped(stop, running, _healthy(role)):
                return 0
        await on_up()
        await _wait_unless_stopped(stop, running, asyncio.Event().wait())
    except _RoleDied as death:
        print(f"cortex: {death.message}", file=sys.stderr)  # noqa: T201 - a command's own message, not a log line
        return 1
    finally:
        for role, process in reversed(running):
            await _end(role, process, stop, drain_s)
    return 0


class _Stop:
    """SIGTERM and SIGINT as events: the first one sets `asked`, further ones `forced`. SIGHUP calls `on_reload`, or is
    as SIGTERM when this process had a terminal that is gone."""

    def __init__(self, on_reload: Callable[[], None]) -> None:
        self._on_reload = on_reload
        self._had_terminal = _has_terminal()
        self.asked = asyncio.Event()
        self.forced = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)

    def _on_signal(self) -> None:
        (self.forced if self.asked.is_set() else self.asked).set()

    def _on_hangup(self) -> None:
        if self._had_terminal and not _has_terminal():
            self.asked.set()
        else:
            self._on_reload()


def _has_terminal() -> bool:
    """Whether this process has a controlling terminal that still exists."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _send_to_all(running: Sequence[tuple[Role, asyncio.subprocess.Process]], number: signal.Signals) -> None:
    for _, process in running:
        if process.returncode is None:
            process.send_signal(number)


async def _start(role: Role, environment: Mapping[str, str]) -> asyncio.subprocess.Process:
    """A session of its own keeps a terminal's Ctrl-C from reaching the child twice."""
    from cortex.neuron.workers.spawn import python_command

    return await asyncio.create_subprocess_exec(
        *python_command("cortex", *role.arguments),
        env=environment,
        start_new_session=True,
        preexec_fn=_before_exec,
    )


def _before_exec() -> None:
    """In the child. It ignores SIGHUP until it can handle it. Linux sends it SIGTERM when its parent is killed: an
    orphan would keep its GPU memory."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


async def _wait_unless_stopped(
    stop: _Stop, running: Sequence[tuple[Role, asyncio.subprocess.Process]], event: Awaitable[object]
) -> bool:
    """Wait for `event`: True once it is done, False when asked to stop. Raises _RoleDied, and what `event` raises."""
    waiting = asyncio.ensure_future(event)
    asked = asyncio.ensure_future(stop.asked.wait())
    ends = {asyncio.ensure_future(process.wait()): role for role, process in running}
    done, pending = await asyncio.wait([waiting, asked, *ends], return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    if asked in done:
        return False
    for end, role in ends.items():
        if end in done:
            raise _RoleDied(f"the {role.name} ended with exit code {end.result()}; see its log above")
    await waiting
    return True


async def _healthy(role: Role) -> None:
    deadline = time.monotonic() + START_S
    async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
        while time.monotonic() < deadline:
            try:
                if (await client.get(f"{role.url}/health")).is_success:
                    return
            except httpx.TransportError:
                pass  # it doesn't listen yet
            await asyncio.sleep(0.05)
    raise _RoleDied(f"the {role.name} didn't answer on {role.url}/health within {START_S:.0f} s; see its log above")


async def _end(role: Role, process: asyncio.subprocess.Process, stop: _Stop, drain_s: float) -> None:
    """Stop a role: SIGTERM, SIGTERM again if forced, SIGKILL past the deadline. Its process has ended on return."""
    if process.returncode is not None:
        return
    process.terminate()
    forced = asyncio.create_task(stop.forced.wait())
    ended = asyncio.create_task(process.wait())
    await asyncio.wait([ended, forced], timeout=drain_s + KILL_S, return_when=asyncio.FIRST_COMPLETED)
    if forced.done() and process.returncode is None:
        process.terminate()
        await asyncio.wait([ended], timeout=KILL_S)
    forced.cancel()
    if not ended.done():
        print(f"cortex: the {role.name} does not end; killing it", file=sys.stderr)  # noqa: T201 - as above
        process.kill()
    await ended
