"""Families that differ from Hermes only in their markers and key names."""

from __future__ import annotations

from cortex.engine.chat.formats.json_calls import JsonCalls

__all__ = [
    "APRIEL",
    "COHERE",
    "COMMAND_R",
    "FIREFUNCTION",
    "GIGACHAT",
    "GIGACHAT_31",
    "GRANITE",
    "INTERNLM",
    "LONGCAT",
    "NEMOTRON",
    "XLAM",
]

GRANITE = JsonCalls(name="granite", open="<|tool_call|>", array=True, evidence=("<|tool_call|>",))

NEMOTRON = JsonCalls(name="nemotron", open="<TOOLCALL>", close="</TOOLCALL>", array=True, evidence=("<TOOLCALL>",))

APRIEL = JsonCalls(name="apriel", open="<tool_calls>", close="</tool_calls>", array=True, evidence=("<tool_calls>[",))

_ANSWERS = (("<|START_RESPONSE|>", "<|END_RESPONSE|>"), ("<|START_TEXT|>", "<|END_TEXT|>"))
COHERE = JsonCalls(
    name="cohere",
    open="<|START_ACTION|>",
    close="<|END_ACTION|>",
    name_keys=("tool_name", "name"),
    argument_keys=("parameters", "arguments"),
    array=True,
    wrappers=_ANSWERS,
    evidence=("<|START_ACTION|>",),
)

# Command-R+ writes a fenced array behind a heading; the fence is read by JsonCalls.
COMMAND_R = JsonCalls(
    name="command_r",
    open="Action:",
    name_keys=("tool_name", "name"),
    argument_keys=("parameters", "arguments"),
    array=True,
    fenced=True,
    evidence=("Action:", '"tool_name"', '"parameters"'),
)

FIREFUNCTION = JsonCalls(name="firefunction", open="functools", array=True, evidence=("functools[",))

# GigaChat 3 writes a message header where 3.1 has a token.
GIGACHAT = JsonCalls(
    name="gigachat",
    open="<|message_sep|>\n\nfunction call<|role_sep|>",
    evidence=("function call<|role_sep|>",),
)
GIGACHAT_31 = JsonCalls(name="gigachat_31", open="<|function_call|>", evidence=("<|function_call|>",))

INTERNLM = JsonCalls(
    name="internlm",
    open="<|action_start|><|plugin|>",
    close="<|action_end|>",
    argument_keys=("parameters", "arguments"),
    evidence=("<|action_start|>", "<|plugin|>"),
)

LONGCAT = JsonCalls(
    name="longcat", open="<longcat_tool_call>", close="</longcat_tool_call>", evidence=("<longcat_tool_call>",)
)

# xLAM: nothing but a JSON array as the whole answer.
XLAM = JsonCalls(name="xlam", open="[", bare=True, at_start=True, array=True, evidence=('[{"name": ', '"arguments"'))
