"""Hermes: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, once per call.

Spoken by Hermes 2/3, Qwen2.5, Qwen3, QwQ, Granite 4, MiMo-VL, Reka and many others; also what cortex teaches a model
that has no format of its own.
"""

from __future__ import annotations

from cortex.engine.chat.formats.json_calls import JsonCalls

__all__ = ["HERMES"]

HERMES = JsonCalls(
    name="hermes", open="<tool_call>", close="</tool_call>", evidence=("<tool_call>", '"name"', '"arguments"')
)
