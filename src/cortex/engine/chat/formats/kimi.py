"""Kimi K2: `<|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{…}<|tool_call_end|>` in a section.

The id is what the model reads the name from in the next turn, so it goes to the client unchanged.
"""

from __future__ import annotations

from cortex.engine.chat.formats.named_json import NamedJson
from cortex.engine.chat.formats.tagged import TaggedCalls

__all__ = ["KIMI_K2", "KIMI_K3"]

KIMI_K2 = NamedJson(
    name="kimi_k2",
    section_open="<|tool_calls_section_begin|>",
    section_close="<|tool_calls_section_end|>",
    call_open="<|tool_call_begin|>",
    name_prefix="functions.",
    own_ids=True,
    name_end="<|tool_call_argument_begin|>",
    call_close="<|tool_call_end|>",
    evidence=("<|tool_calls_section_begin|>", "<|tool_call_argument_begin|>"),
)

KIMI_K3 = TaggedCalls(
    name="kimi_k3",
    holds_several=True,
    section_open="<|open|>tools<|sep|>",
    section_close="<|close|>tools<|sep|>",
    call_open='<|open|>call tool="',
    name_end='"',
    head_end="<|sep|>",
    param_open='<|open|>argument key="',
    key_end='"',
    attributes_end="<|sep|>",
    value_close="<|close|>argument<|sep|>",
    call_close="<|close|>call<|sep|>",
    typed_attribute=True,
    numbered_head=True,
    wrappers=(
        ("<|open|>response<|sep|>", "<|close|>response<|sep|>"),
        ("<|open|>message<|sep|>", "<|close|>message<|sep|>"),
    ),
    evidence=("<|open|>", "<|close|>", "<|sep|>"),
)
