"""`<function=f><parameter=k>v</parameter></function>`: Qwen3-Coder and its like, and Seed-OSS.

Qwen3-Coder, Qwen3.5, Nemotron 3 Nano and StepFun 3.5 put each value on lines of its own and sometimes forget the
opening `<tool_call>`; Seed-OSS does neither.
"""

from __future__ import annotations

from cortex.engine.chat.formats.tagged import TaggedCalls

__all__ = ["QWEN3_CODER", "SEED"]

QWEN3_CODER = TaggedCalls(
    name="qwen3_coder",
    section_open="<tool_call>",
    section_close="</tool_call>",
    call_open="<function=",
    name_end=">",
    param_open="<parameter=",
    key_end=">",
    value_close="</parameter>",
    call_close="</function>",
    line_values=True,
    lenient_start=True,
    evidence=("<tool_call>", "<function=", "<parameter="),
)

SEED = TaggedCalls(
    name="seed",
    section_open="<seed:tool_call>",
    section_close="</seed:tool_call>",
    call_open="<function=",
    name_end=">",
    param_open="<parameter=",
    key_end=">",
    value_close="</parameter>",
    call_close="</function>",
    evidence=("<seed:tool_call>", "<function="),
)
