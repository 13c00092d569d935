"""Families of a name with JSON behind it: Functionary, Solar, and Llama 3.1's custom functions."""

from __future__ import annotations

from cortex.engine.chat.formats.named_json import NamedJson

__all__ = ["FUNCTIONARY_31", "SOLAR"]

FUNCTIONARY_31 = NamedJson(
    name="functionary_31",
    call_open="<function=",
    name_end=">",
    call_close="</function>",
    evidence=("<function=", "</function>"),
)

SOLAR = NamedJson(
    name="solar",
    section_open="<|tool_calls|>",
    call_open="<|tool_call:begin|>",
    id_end="<|tool_call:name|>",
    name_end="<|tool_call:args|>",
    call_close="<|tool_call:end|>",
    evidence=("<|tool_call:begin|>", "<|tool_call:args|>"),
)
