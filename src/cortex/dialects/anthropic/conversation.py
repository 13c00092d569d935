"""Anthropic's messages to wire messages."""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Raw

from cortex.dialects.anthropic.blocks import BlockReader, read_blocks
from cortex.dialects.anthropic.body import (
    ContentBlock,
    MessageParam,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from cortex.dialects.history import newest_input
from cortex.dialects.images import Images
from cortex.wire.inference import Message, Part, Role, Text

__all__ = ["read_messages", "system_message"]

_BILLING = re.compile(r"\A(x-anthropic-billing-header:.*?\bcch=)[^;\s]*", re.DOTALL)


def system_message(system: str | list[Raw] | None, *, normalise_billing: bool) -> list[Message]:
    """The `system` parameter as a list of one message, or of none if it is empty.

    Claude Code puts a billing line first whose `cch` value changes with every request, so that the prefix cache would
    never match (llama.cpp#21793, vllm#36829). `normalise_billing` replaces that value with a constant.
    """
    parts = [block.text for block in read_blocks(system, "system") if isinstance(block, TextBlock)]
    if normalise_billing:
        parts = [_BILLING.sub(r"\g<1>00000", text) for text in parts]
    return [Message("system", [Text(text) for text in parts])] if parts else []


def read_messages(bodies: Sequence[MessageParam], images: Images) -> list[Message]:
    """The wire messages of a request. Raises BadRequest or UnsupportedValue for what can't be read of new input."""
    reader = BlockReader(images)
    newest = newest_input([body.role for body in bodies])
    messages: list[Message] = []
    for index, body in enumerate(bodies):
        messages += _read(body, reader, f"messages[{index}]", new=index == newest)
    return messages


def _read(body: MessageParam, reader: BlockReader, param: str, *, new: bool) -> list[Message]:
    blocks = read_blocks(body.content, f"{param}.content", new=new)
    if body.role == "assistant":
        return _message("assistant", [part for block in blocks for part in _assistant_parts(block, reader, param)])
    # Results first: chat templates expect them directly after the calls, but clients may put text before them.
    results = [block for block in blocks if isinstance(block, ToolResultBlock)]
    plain: list[Part] = [part for block in blocks for part in reader.plain(block, param, new=new)]
    return [*_message("tool", [reader.result(block, param) for block in results]), *_message(body.role, plain)]


def _message(role: Role, parts: list[Part]) -> list[Message]:
    return [Message(role, parts)] if parts else []


def _assistant_parts(block: ContentBlock, reader: BlockReader, param: str) -> list[Part]:
    match block:
        case ThinkingBlock():
            return list(reader.thinking(block))
        case ToolUseBlock():
            return [reader.call(block)]
        case _:
            return list(reader.plain(block, param, new=False))
