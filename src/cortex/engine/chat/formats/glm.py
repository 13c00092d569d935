"""`<tool_call>f<arg_key>k</arg_key><arg_value>v</arg_value></tool_call>`: GLM 4.5 to 4.7, Spark, Ling 3, Laguna, Hy 3.

Some put each tag on its own line, some don't; both are read.
"""

from __future__ import annotations

from cortex.engine.chat.formats.tagged import TaggedCalls

__all__ = ["GLM", "HY3"]

GLM = TaggedCalls(
    name="glm",
    call_open="<tool_call>",
    name_end="",
    param_open="<arg_key>",
    key_end="</arg_key>",
    value_open="<arg_value>",
    value_close="</arg_value>",
    call_close="</tool_call>",
    evidence=("<arg_key>", "<arg_value>"),
)

HY3 = TaggedCalls(
    name="hy3",
    holds_several=True,
    section_open="<tool_calls:opensource>",
    section_close="</tool_calls:opensource>",
    call_open="<tool_call:opensource>",
    name_end="<tool_sep:opensource>",
    param_open="<arg_key:opensource>",
    key_end="</arg_key:opensource>",
    value_open="<arg_value:opensource>",
    value_close="</arg_value:opensource>",
    call_close="</tool_call:opensource>",
    evidence=("<tool_calls{}>", "<arg_key{}>", ":opensource"),
)
