"""Custom (free-form) tools: the client declares no schema, the model is shown a function of one string.

OpenAI's `custom` tools take raw text (Codex's apply_patch is one). A model writes JSON arguments, so the text is
wrapped for it as `{"input": …}` and unwrapped again on the way out: a client that gets the JSON refuses it.

A tool's `format` may be a grammar. A regex becomes the string's `pattern`, which the model is then held to as to any
schema. A Lark grammar can't be: what is generated is its text escaped as a JSON string. The model is told of both.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import Struct

from cortex.wire.inference import JsonSchema, Tool

__all__ = ["CustomInput", "GrammarBody", "custom_tool", "unwrap", "wrap"]

_HEAD = re.compile(r'\s*\{\s*"input"\s*:\s*"')
# Whole characters of a JSON string: plain, a simple escape, a surrogate pair, or one \u that is no half of a pair.
_CHARACTERS = re.compile(
    r"""(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]"""
    r"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4})*"
)


class GrammarBody(Struct, frozen=True):
    """What a custom tool's text has to follow; `syntax` is "lark" or "regex"."""

    syntax: str = ""
    definition: str = ""


def custom_tool(name: str, description: str | None, grammar: GrammarBody | None, *, strict: bool) -> Tool:
    """The function that the model is shown for a custom tool."""
    told = description or ""
    schema: JsonSchema = {"type": "string", "description": "The tool's free-form input."}
    if grammar is not None and grammar.definition:
        told = f"{told}\n\nThe input follows this {grammar.syntax} grammar:\n{grammar.definition}".lstrip()
        if grammar.syntax == "regex":
            schema["pattern"] = f"^(?:{grammar.definition})$"
    properties = {"type": "object", "properties": {"input": schema}, "required": ["input"]}
    return Tool(name, told, {**properties, "additionalProperties": False}, strict=strict)


class Wrapped(Struct, frozen=True):
    input: str


_WRAPPED = msgspec.json.Decoder(Wrapped)


def wrap(text: str) -> str:
    """Raw text as the arguments that the model would have written."""
    return msgspec.json.encode(Wrapped(text)).decode()


def unwrap(arguments: str) -> str:
    """The raw text in finished arguments; arguments of another shape are taken for the text itself."""
    try:
        return _WRAPPED.decode(arguments).input
    except msgspec.MsgspecError:
        return arguments


class CustomInput:
    """Fragments of `{"input": "…"}` in, pieces of the raw text out, as soon as their characters are whole."""

    def __init__(self) -> None:
        self._arguments = ""
        self._at: int | None = None
        self._sent = 0

    def feed(self, fragment: str) -> str:
        self._arguments += fragment
        if self._at is None:
            head = _HEAD.match(self._arguments)
            if head is None:
                return ""
            self._at = head.end()
        whole = _CHARACTERS.match(self._arguments, self._at)
        if whole is None:
            return ""
        self._at = whole.end()
        text = msgspec.json.decode(f'"{whole.group()}"', type=str)
        self._sent += len(text)
        return text

    def finish(self) -> str:
        """What `feed` couldn't tell for sure."""
        return self.text[self._sent :]

    @property
    def text(self) -> str:
        """The whole raw text; right once the arguments are complete."""
        return unwrap(self._arguments)
