"""The keyboard of a terminal as key names: `a`, `up`, `enter`, `escape` …"""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from types import TracebackType

__all__ = ["Keyboard", "parse_keys"]

_SEQUENCES = {
    "\x1b[A": "up",
    "\x1b[B": "down",
    "\x1bOA": "up",
    "\x1bOB": "down",
    "\x1b[5~": "pageup",
    "\x1b[6~": "pagedown",
}
_SINGLE = {"\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace", "\x03": "ctrl-c", "\x1b": "escape"}


def parse_keys(text: str) -> list[str]:
    """The key names in `text`, the result of one read from the terminal; unknown escape sequences are dropped."""
    keys: list[str] = []
    while text:
        name = next((name for name in _SEQUENCES if text.startswith(name)), None)
        if name:
            keys.append(_SEQUENCES[name])
            text = text[len(name) :]
        elif text.startswith(("\x1b[", "\x1bO")) and len(text) > 2:
            end = next(
                (index for index in range(2, len(text)) if text[index].isalpha() or text[index] == "~"), len(text)
            )
            text = text[end + 1 :]
        else:
            keys.append(_SINGLE.get(text[0], text[0]))
            text = text[1:]
    return keys


class Keyboard:
    """The terminal on stdin, in cbreak mode within the `with` block. Without a terminal there are no keys."""

    def __init__(self) -> None:
        self._fd = sys.stdin.fileno() if sys.stdin.isatty() else None
        self._saved: list[object] | None = None

    def __enter__(self) -> Keyboard:
        if self._fd is not None:
            self._saved = termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd is not None and self._saved is not None:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._saved)  # type: ignore[arg-type]  # typeshed: list[Any]

    def wait(self, timeout_s: float) -> list[str]:
        """Wait for keys, at most `timeout_s`, and return their names."""
        readable, _, _ = select.select([self._fd] if self._fd is not None else [], [], [], max(0.0, timeout_s))
        return parse_keys(os.read(self._fd, 1024).decode(errors="replace")) if readable and self._fd is not None else []
