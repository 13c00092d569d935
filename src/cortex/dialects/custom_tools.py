"""Custom (free-form) tools: the client declares no schema, the model is shown a function of one string.

OpenAI's `custom` tools take raw text (Codex's apply_patch is one). A model writes JSON arguments, so the text is
wrapped for it as `{"input": …}` and unwrapped again on the way out: a client that gets the JSON refuses it.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import Struct

from cortex.wire.inference import JsonSchema

__all__ = ["CUSTOM_PARAMETERS", "CustomInput", "unwrap", "wrap"]

CUSTOM_PARAMETERS: JsonSchema = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "The tool's free-form input."}},
    "required": ["input"],
    "additionalProperties": False,
}
"""What the model is shown of a custom tool."""

_HEAD = re.compile(r'\s*\{\s*"input"\s*:\s*"')
# Whole characters of a JSON string: plain, a simple escape, a surrogate pair, or one \u that is no half of a pair.
_CHARACTERS = re.compile(
    r"""(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]"""
    r"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4})*"
)


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
