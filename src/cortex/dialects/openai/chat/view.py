"""What a chat answer needs to know of its request."""

from __future__ import annotations

from dataclasses import dataclass

from cortex.dialects.openai.objects import finish_word
from cortex.wire.events import FinishReason

__all__ = ["ChatView"]


@dataclass(frozen=True, slots=True)
class ChatView:
    """`usage`, `timings`, `progress`: whether the client asked for them. `legacy`: it speaks of functions, not of
    tools. `custom`: the names of its free-form tools."""

    id: str
    created: int
    model: str
    choices: int = 1
    usage: bool = False
    timings: bool = False
    progress: bool = False
    legacy: bool = False
    custom: frozenset[str] = frozenset()

    def finish_word(self, reason: FinishReason, called: bool) -> str:
        """`finish_reason`: clients act on calls only when it says so; a call cut by the limit stays `length`."""
        word = finish_word(reason)
        if called and word in {"stop", "tool_calls"}:
            return "function_call" if self.legacy else "tool_calls"
        return word
