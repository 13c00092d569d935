"""Real `cortex` processes for tests, with free ports, captured logs, signals by pid and a checked exit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import httpx

__all__ = ["PLAIN", "Daemon", "eventually", "toml"]

T = TypeVar("T")

CORTEX = Path(sys.executable).with_name("cortex")
PLAIN: dict[str, Any] = {"trust_env": False, "verify": False}
"""For httpx on loopback: no proxy, and no certificates, since reading them takes longer than the request."""
START_S = 120.0
STOP_S = 90.0
EVENTUALLY_S = 60.0
"""Deadlines only end what hangs: on a busy machine a start may take ten times as long."""


def eventually(fact: Callable[[], T], within_s: float = EVENTUALLY_S, what: str = "") -> T:
    """Call `fact` every 10 ms and return its first true value; fail the test if there is none in time."""
    deadline = time.monotonic() + within_s
    while not (value := fact()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {what or fact}"
        time.sleep(0.01)
    return value


def toml(sections: dict[str, Any]) -> str:
    """`sections` as TOML with inline values; strings, numbers and lists are written as in JSON."""
    return "".join(f"{name} = {_inline(value)}\n" for name, value in sections.items())


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)


class Daemon:
    """One `cortex …` process. Its log lines are JSON, since stderr is a pipe; other lines are kept as text."""

    def __init__(self, arguments: list[str], environment: dict[str, str] | None = None) -> None:
        self.lines: list[str] = []
        self.output: list[str] = []
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CORTEX_")}
        self.process = subprocess.Popen(
            [str(CORTEX), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**kept, "PYTHONUNBUFFERED": "1", **(environment or {})},
            start_new_session=True,
        )
        self._readers = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in ((self.process.stderr, self.lines), (self.process.stdout, self.output))
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: Any, into: list[str]) -> None:
        with stream:
            for line in stream:
                into.append(line.rstrip("\n"))  # noqa: PERF401 - readers look at the list while it grows

    @property
    def pid(self) -> int:
        return self.process.pid

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """The JSON log lines so far, all or those of one event."""
        decoded = [json.loads(line) for line in list(self.lines) if line.startswith("{")]
        return [line for line in decoded if name in (None, line.get("event"))]

    def wait_for(self, event: str, within_s: float = START_S) -> dict[str, Any]:
        """Wait for the first log line of `event`; fail at once if the process ends before."""

        def seen() -> list[dict[str, Any]]:
            ended = self.process.poll() is not None
            lines = self.events(event)
            assert lines or not ended, f"ended with {self.process.returncode} instead:\n{self.log()}"
            return lines

        return eventually(seen, within_s, f"log line {event!r}; log so far:\n{self.log()}")[0]

    @cached_property
    def url(self) -> str:
        return str(self.wait_for("listening")["url"])

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", timeout=60, **PLAIN, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", json=body, timeout=120, **PLAIN, **options)

    def status(self) -> Any:
        answer = self.get("/status")
        answer.raise_for_status()
        return answer.json()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, within_s: float = STOP_S) -> int:
        """The exit code; a process that doesn't end in time is killed and fails the test."""
        try:
            code = self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"didn't end within {within_s} s:\n{self.log()}") from None
        for reader in self._readers:
            reader.join(60)
        return code

    def stop(self) -> None:
        """SIGTERM; the process must end in time with code 0, and must have logged no unhandled exception."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        code = self.wait()
        assert code == 0, f"exit code {code}:\n{self.log()}"
        assert not [line for line in self.lines if "Traceback" in line], self.log()

    def log(self) -> str:
        return "\n".join(self.lines[-80:])
