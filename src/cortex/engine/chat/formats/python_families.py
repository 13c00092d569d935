"""The dialects of Python-like calls."""

from __future__ import annotations

from cortex.engine.chat.formats.pythonic import Pythonic

__all__ = ["BARE_PYTHON", "LFM2", "OLMO3"]

LFM2 = Pythonic(name="lfm2", open="<|tool_call_start|>", close="<|tool_call_end|>", evidence=("<|tool_list_start|>",))

OLMO3 = Pythonic(
    name="olmo3", open="<function_calls>", close="</function_calls>", lines=True, evidence=("<function_calls>",)
)

# Llama 4 and others that were trained on bare lists: nothing but the bracket tells them from text.
BARE_PYTHON = Pythonic(name="pythonic", evidence=("[func_name1(params_name1=params_value1",))
