"""A stream's bytes as server-sent events, and what any reader makes of them in the end."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

__all__ = ["Complaint", "Frame", "Said", "data_lines", "frames"]


class Complaint(AssertionError):
    """What would have broken the client that the reader stands for."""


@dataclass(frozen=True, slots=True)
class Frame:
    event: str | None
    data: str


@dataclass(slots=True)
class Said:
    """`calls` are (name, arguments) as they reached the client, without those whose arguments it couldn't read
    (`unreadable`); `end` is its word for why it ended."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    end: str | None = None
    error: str | None = None
    ended: bool = False

    def add_call(self, name: str, arguments: str) -> None:
        """Note a call whose arguments the client parses before it runs anything."""
        try:
            readable = isinstance(json.loads(arguments), dict)
        except ValueError:
            readable = False
        (self.calls if readable else self.unreadable).append((name, arguments))


def frames(body: bytes) -> list[Frame]:
    """The dispatched events, by the WHATWG rules; an unfinished frame at the end is one that got lost."""
    if body and not body.endswith(b"\n\n"):
        raise Complaint("the stream ends inside a frame")
    found: list[Frame] = []
    for block in body.decode("utf-8").split("\n\n"):
        event: str | None = None
        data: list[str] = []
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "event":
                event = value
            elif name == "data":
                data.append(value)
            elif name:
                raise Complaint(f"unknown SSE field {name!r}")
        if data:
            found.append(Frame(event, "\n".join(data)))
    return found


def data_lines(body: bytes) -> list[str]:
    """What readers see that look at lines only and strip exactly `data: ` (Zed's do)."""
    return [line[6:] for line in body.decode("utf-8").split("\n") if line.startswith("data: ")]
