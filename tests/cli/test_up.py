"""What `cortex up` refuses before it starts anything."""

from __future__ import annotations

import asyncio
import os
import signal
import socket

import pytest

from cortex.cli import child_processes
from cortex.errors import ConfigError
from tests.cli.program import run


def test_up_refuses_a_port_in_use_before_it_starts_anything() -> None:
    """The process that listened there answered the health checks, and `cortex is up` was printed."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = run("up", "--listen", f"127.0.0.1:{port}")
    assert isinstance(refused.exception, ConfigError)
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use; is cortex running" in str(refused.exception)


def test_up_beyond_this_machine_without_keys_is_refused_at_once() -> None:
    refused = run("up", "--listen", "0.0.0.0:0")
    assert isinstance(refused.exception, ConfigError)
    assert "gateway.insecure = true" in str(refused.exception)


@pytest.mark.parametrize(("has_terminal", "reloads", "stops"), [([True, True], 1, False), ([False, False], 1, False)])
async def test_a_hangup_reloads(
    monkeypatch: pytest.MonkeyPatch, has_terminal: list[bool], reloads: int, stops: bool
) -> None:
    assert await hangup(monkeypatch, has_terminal) == (reloads, stops)


async def test_a_hangup_with_the_terminal_gone_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever closes the window wants it to end, not to read its files again."""
    assert await hangup(monkeypatch, [True, False]) == (0, True)


async def hangup(monkeypatch: pytest.MonkeyPatch, has_terminal: list[bool]) -> tuple[int, bool]:
    """(reloads, whether it stops) after SIGHUP, where there is a terminal at the start and at the signal as said."""
    answers, reloads = iter(has_terminal), []
    monkeypatch.setattr(child_processes, "_has_terminal", lambda: next(answers))
    stop = child_processes._Stop(lambda: reloads.append(1))
    try:
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0.05)
        return len(reloads), stop.asked.is_set()
    finally:
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().remove_signal_handler(number)
