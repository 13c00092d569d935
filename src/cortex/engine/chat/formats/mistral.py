"""Mistral: `[TOOL_CALLS]`, then a JSON array (until v7), or name and arguments with or without an id (from v11).

The ids are nine characters that the model makes up; clients get ours instead.
"""

from __future__ import annotations

from cortex.engine.chat.formats.json_calls import JsonCalls
from cortex.engine.chat.formats.named_json import NamedJson

__all__ = ["MISTRAL_ARGS", "MISTRAL_ARRAY", "MISTRAL_CALL_ID"]

MISTRAL_CALL_ID = NamedJson(
    name="mistral_call_id",
    call_open="[TOOL_CALLS]",
    name_end="[ARGS]",
    id_mark="[CALL_ID]",
    evidence=("[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"),
)

MISTRAL_ARGS = NamedJson(
    name="mistral_args", call_open="[TOOL_CALLS]", name_end="[ARGS]", evidence=("[TOOL_CALLS]", "[ARGS]")
)

MISTRAL_ARRAY = JsonCalls(name="mistral", open="[TOOL_CALLS]", array=True, evidence=("[TOOL_CALLS]",))
