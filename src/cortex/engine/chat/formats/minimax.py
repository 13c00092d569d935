"""MiniMax M1 (a JSON object per line) and M2 (`<invoke name="f"><parameter name="k">v</parameter></invoke>`)."""

from __future__ import annotations

from cortex.engine.chat.formats.json_calls import JsonCalls
from cortex.engine.chat.formats.tagged import TaggedCalls

__all__ = ["MINIMAX_M1", "MINIMAX_M2"]

MINIMAX_M1 = JsonCalls(
    name="minimax_m1", open="<tool_calls>", close="</tool_calls>", evidence=("<tool_calls>", '{"name": <tool-name>')
)

MINIMAX_M2 = TaggedCalls(
    name="minimax_m2",
    holds_several=True,
    section_open="<minimax:tool_call>",
    section_close="</minimax:tool_call>",
    call_open='<invoke name="',
    name_end='">',
    param_open='<parameter name="',
    key_end='">',
    value_close="</parameter>",
    call_close="</invoke>",
    evidence=("minimax:tool_call", "<invoke name="),
)
