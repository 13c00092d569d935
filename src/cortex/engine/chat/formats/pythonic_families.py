"""Families that write calls as Python does, as data."""

from __future__ import annotations

from cortex.engine.chat.formats.pythonic import Pythonic

__all__ = ["BARE_PYTHON", "LFM2", "OLMO3"]

LFM2 = Pythonic(name="lfm2", open="<|tool_call_start|>", close="<|tool_call_end|>", evidence=("<|tool_list_start|>",))
"""LFM2-8B-A1B, LFM2.5-8B-A1B (llama.cpp, models/templates)."""

OLMO3 = Pythonic(
    name="olmo3", open="<function_calls>", close="</function_calls>", lines=True, evidence=("<function_calls>",)
)
"""Olmo 3's own template (also vLLM's tool parser `olmo3`)."""

BARE_PYTHON = Pythonic(name="pythonic", evidence=("[func_name1(params_name1=params_value1",))
"""Only the bracket distinguishes a call from text: Llama 4, and others trained on its prompt (also vLLM's tool parser
`pythonic`)."""
