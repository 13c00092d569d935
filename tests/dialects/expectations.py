"""What a client must have understood of a script, per dialect."""

from __future__ import annotations

from collections.abc import Callable

from cortex.dialects.custom_tools import unwrap_input
from tests.dialects.adapters_anthropic import ANTHROPIC_MESSAGES
from tests.dialects.adapters_openai import OPENAI_CHAT
from tests.dialects.adapters_responses import OPENAI_RESPONSES
from tests.dialects.harness import Dialect
from tests.dialects.readers import ai_sdk_anthropic, ai_sdk_chat, ai_sdk_responses, claude_code, codex, zed
from tests.dialects.readers.frames import Said
from tests.dialects.scripts import Script

__all__ = ["READERS", "Reader", "client_calls", "end_word"]

Reader = Callable[[bytes], Said]

READERS: dict[str, tuple[Dialect, Reader]] = {
    "zed-chat": (OPENAI_CHAT, zed.read_chat),
    "ai-sdk-chat": (OPENAI_CHAT, ai_sdk_chat.read_chat),
    "zed-anthropic": (ANTHROPIC_MESSAGES, zed.read_anthropic),
    "ai-sdk-anthropic": (ANTHROPIC_MESSAGES, ai_sdk_anthropic.read_anthropic),
    "claude-code": (ANTHROPIC_MESSAGES, claude_code.read_anthropic),
    "zed-responses": (OPENAI_RESPONSES, zed.read_responses),
    "ai-sdk-responses": (OPENAI_RESPONSES, ai_sdk_responses.read_responses),
    "codex": (OPENAI_RESPONSES, codex.read_responses),
}

_END_WORDS = {
    "anthropic_messages": {
        "stop": "end_turn",
        "stop_sequence": "stop_sequence",
        "tool_calls": "tool_use",
        "length": "max_tokens",
        "content_filter": "refusal",
    },
    "openai_responses": {"length": "max_output_tokens", "content_filter": "content_filter"},
    "openai_chat": {"tool_calls": "tool_calls", "length": "length", "content_filter": "content_filter"},
}


def end_word(dialect: Dialect, script: Script) -> str | None:
    """The dialect's word for the script's finish reason."""
    if script.reason is None:
        return None
    default = "completed" if dialect is OPENAI_RESPONSES else "stop"
    return _END_WORDS[dialect.name].get(script.reason, default)


def client_calls(reader: str, script: Script) -> list[tuple[str, str]]:
    """(name, arguments) as the client knows its tools: custom ones unwrapped, namespaced ones without the prefix
    (Codex's reader, which knows namespaces, puts it back)."""
    dialect, _ = READERS[reader]
    if dialect is not OPENAI_RESPONSES:
        return script.calls
    if script.tool_kind == "custom":
        return [(name, unwrap_input(arguments)) for name, arguments in script.calls]
    if script.tool_kind == "namespaced" and reader != "codex":
        return [(name.partition("__")[2], arguments) for name, arguments in script.calls]
    return script.calls
