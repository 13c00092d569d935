"""Families whose arguments are one tag each, as data. File names are chat templates in llama.cpp's models/templates."""

from __future__ import annotations

from cortex.engine.chat.formats.tagged import TaggedCalls

__all__ = [
    "DSML",
    "DSML_CALLS",
    "GLM",
    "HY3",
    "KIMI_K3",
    "MINICPM5",
    "MINIMAX_M2",
    "MINIMAX_M3",
    "QWEN3_CODER",
    "SEED",
]

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
"""`<function=f><parameter=k>v</parameter></function>`, each value on lines of its own: Qwen3-Coder, Qwen3.5-4B,
NVIDIA-Nemotron-3-Nano-30B-A3B-BF16, StepFun3.5-Flash."""

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
"""ByteDance-Seed-OSS."""

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
"""`<tool_call>f<arg_key>k</arg_key><arg_value>v</arg_value></tool_call>`, tags on lines of their own or not: GLM-4.6,
GLM-4.7-Flash, Spark2.5, inclusionai-ling-3.0-flash, poolside-Laguna-S-2.1, -XS-2.1 and -XS.2."""

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
"""tencent-Hy3, which formats its tags with the suffix `:opensource`."""

MINICPM5 = TaggedCalls(
    name="minicpm5",
    call_open='<function name="',
    name_end='">',
    param_open='<param name="',
    key_end='">',
    value_close="</param>",
    call_close="</function>",
    cdata=True,
    evidence=('<function name="', '<param name="'),
)
"""openbmb-MiniCPM5-1B."""

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
"""MiniMax-M2."""

_M3 = "]<]minimax[>["

MINIMAX_M3 = TaggedCalls(
    name="minimax_m3",
    holds_several=True,
    section_open=f"{_M3}<tool_call>",
    section_close=f"{_M3}</tool_call>",
    call_open=f'{_M3}<invoke name="',
    name_end='">',
    param_open=f"{_M3}<",
    key_end=">",
    value_close=f"{_M3}</{{key}}>",
    call_close=f"{_M3}</invoke>",
    nested_prefix=_M3,
    evidence=(_M3,),
)
"""Every tag has a token before it and is named after its argument; nested values are nested tags: MiniMax-M3."""


def _dsml(name: str, section: str) -> TaggedCalls:
    return TaggedCalls(
        name=name,
        holds_several=True,
        section_open=f"<｜DSML｜{section}>",
        section_close=f"</｜DSML｜{section}>",
        call_open='<｜DSML｜invoke name="',
        name_end='">',
        param_open='<｜DSML｜parameter name="',
        key_end='"',
        attributes_end=">",
        value_close="</｜DSML｜parameter>",
        call_close="</｜DSML｜invoke>",
        evidence=("｜DSML｜", section),
    )


DSML = _dsml("dsml", "function_calls")
"""deepseek-ai-DeepSeek-V3.2."""

DSML_CALLS = _dsml("dsml_calls", "tool_calls")
"""deepseek-ai-DeepSeek-V4, -V4-Flash-0731."""

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
"""Kimi-K3."""
