"""OpenAI's custom tools, which take raw text instead of JSON arguments (Codex's apply_patch is one).

Models write JSON arguments, so a custom tool is offered to the model as a function with one string parameter `input`.
The text is wrapped as `{"input": …}` for the model and unwrapped for the client, which rejects the JSON form
("apply_patch invoked with incompatible payload").

A tool's `format` may be a grammar. A regex becomes the `pattern` of the string and is enforced like any schema. A Lark
grammar can't be enforced, because the model generates its text escaped as a JSON string. Both are added to the tool's
description.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import Struct

from cortex.wire.inference import JsonSchema, Tool

__all__ = ["CustomInput", "GrammarBody", "custom_tool", "unwrap_cut_input", "unwrap_input", "wrap_input"]

_HEAD = re.compile(r'\s*\{\s*"input"\s*:\s*"')
# Whole characters of a JSON string: plain, a simple escape, a surrogate pair, or one \u that is no half of a pair.
_CHARACTERS = re.compile(
    r"""(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]"""
    r"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4})*"
)


class GrammarBody(Struct, frozen=True):
    """The grammar of a custom tool's text; `syntax` is "lark" or "regex"."""

    syntax: str = ""
    definition: str = ""


def custom_tool(name: str, description: str | None, grammar: GrammarBody | None, *, strict: bool) -> Tool:
    """The function that stands for a custom tool in the prompt."""
    text = description or ""
    schema: JsonSchema = {"type": "string", "description": "The tool's free-form input."}
    if grammar is not None and grammar.definition:
        text = f"{text}\n\nThe input follows this {grammar.syntax} grammar:\n{grammar.definition}".lstrip()
        if grammar.syntax == "regex":
            schema["pattern"] = f"^(?:{grammar.definition})$"
    properties = {"type": "object", "properties": {"input": schema}, "required": ["input"]}
    return Tool(name, text, {**properties, "additionalProperties": False}, strict=strict)


class WrappedInput(Struct, frozen=True):
    input: str


_WRAPPED = msgspec.json.Decoder(WrappedInput)


def wrap_input(text: str) -> str:
    """Raw text as the JSON arguments of the function in the prompt."""
    return msgspec.json.encode(WrappedInput(text)).decode()


def unwrap_input(arguments: str) -> str:
    """The raw text in complete arguments. Arguments of another shape are returned unchanged."""
    try:
        return _WRAPPED.decode(arguments).input
    except msgspec.MsgspecError:
        return arguments


def unwrap_cut_input(arguments: str) -> str:
    """The raw text in the beginning of arguments that were cut."""
    return CustomInput().feed(arguments)


class CustomInput:
    """Streaming `unwrap_input`: `feed` takes the next fragment of `{"input": "…"}` and returns the raw text that is
    complete so far and wasn't returned before."""

    def __init__(self) -> None:
        self._arguments = ""
        self._at: int | None = None
        self._pieces: list[str] = []

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
        self._pieces.append(text)
        return text

    def finish(self, *, complete: bool) -> str:
        """The rest of the text, after the last fragment; there is none of arguments that were cut."""
        rest = unwrap_input(self._arguments)[len(self.text) :] if complete else ""
        self._pieces.append(rest)
        return rest

    @property
    def text(self) -> str:
        """The raw text returned so far."""
        return "".join(self._pieces)
