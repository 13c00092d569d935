"""Starting engine processes, and reading what they print.

The neuron's parent never loads llama.cpp: whatever does runs in a process of its own.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

__all__ = ["QUIET_ABORT", "LogTail", "exit_reason", "prefer_oom_kill", "python_command", "spawn_worker"]

QUIET_ABORT = {"GGML_NO_BACKTRACE": "1"}
"""Environment in which llama.cpp aborts without a backtrace, so that its error message is the last line of its log.
Else ggml_print_backtrace (ggml.c) stops the process under gdb, where that is installed, for seconds, and prints frames
that push the message out of LogTail."""


def python_command(module: str, *arguments: str) -> list[str]:
    """`python -m module` under this interpreter. -P keeps the current directory off sys.path: a file there must not
    shadow a library."""
    return [sys.executable, "-P", "-m", module, *arguments]


async def spawn_worker(
    command: Callable[[int], Sequence[str]], environment: Mapping[str, str]
) -> tuple[asyncio.subprocess.Process, socket.socket]:
    """Start `command(fd)`, where `fd` is the child's end of a socketpair; returns the process and our end.

    `environment` is laid over this process's own; stdout and stderr are one pipe. Raises OSError.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = await asyncio.create_subprocess_exec(
                *command(theirs.fileno()),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,  # Ctrl-C must reach the parent only: it drains before it stops workers
            )
        except OSError:
            ours.close()
            raise
    return process, ours


def prefer_oom_kill(pid: int) -> None:
    """When the host runs out of memory the kernel should kill a worker before the daemon (proc(5), oom_score_adj)."""
    with suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("500")


def exit_reason(code: int) -> str:
    """Text for a return code of asyncio.subprocess, where negative codes are signals."""
    if code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"


class LogTail:
    """A process's output as lines, of which the last `keep` are kept. Bytes in, lines out."""

    def __init__(self, keep: int = 40) -> None:
        self._lines: deque[str] = deque(maxlen=keep)
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that `data` completes."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > 65536:  # a progress bar without newlines must not grow without bound
            whole, self._rest = [*whole, self._rest], b""
        lines = [line.decode(errors="replace").rstrip() for line in whole]
        self._lines.extend(line for line in lines if line)
        return lines

    @property
    def lines(self) -> list[str]:
        """Oldest first, an unfinished line last."""
        rest = self._rest.decode(errors="replace").rstrip()
        return [*self._lines, *([rest] if rest else [])]
