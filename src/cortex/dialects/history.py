"""Reading what clients send back of earlier turns, which can't be refused: no client can take it out of its history.

What a model wrote is sent back as it was, broken JSON included, and what a tool returned is of any type. A request that
fails for it fails in every later turn of the conversation. So it is read as far as it can be, and the model sees a
placeholder for what can't. Only the user's newest message is judged as input.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

__all__ = ["CallId", "begins", "made_of_parts", "newest_input", "object_arguments", "omitted", "plain_text", "texts_in"]

CallId = str | int
"""A call's id; some servers count their calls, and their clients send the numbers back."""


class TypedPart(Struct, frozen=True):
    type: Any = None


_TYPED = msgspec.json.Decoder(TypedPart)
_OBJECT = msgspec.json.Decoder(dict[str, Any])
_FENCE = re.compile(r"\s*```[\w-]*\s(.*?)```\s*", re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")
_MAX_LAYERS = 4
"""How often encoded or fenced arguments are unpacked. Twice occurs (a gateway encodes what was encoded before)."""


def object_arguments(arguments: Any) -> str:
    """A call's arguments as the JSON text of an object, whatever the client sent back.

    The text of an object is returned unchanged. An object that is encoded twice, in a code fence, or with raw line
    breaks in its strings is read; anything else is wrapped as the member `arguments` of an object, since chat templates
    need one.
    """
    if isinstance(arguments, str):
        try:
            _OBJECT.decode(arguments)
        except (msgspec.MsgspecError, RecursionError):
            return _readable(arguments)
        return arguments
    return _readable(arguments)


def _readable(arguments: Any) -> str:
    try:
        return _as_json(_object_in(arguments))
    except ValueError:  # NaN or a number beyond a float's range, which JSON lacks
        return _as_json({"arguments": arguments})


def _object_in(value: Any) -> dict[str, Any]:
    inner = value
    for _ in range(_MAX_LAYERS):
        if not isinstance(inner, str):
            break
        if not inner.strip():
            return {}
        fenced = _FENCE.fullmatch(inner)
        try:
            inner = json.loads(fenced[1] if fenced else inner, strict=False)
        except (ValueError, RecursionError):
            break
    if inner is None:
        return {}
    return inner if isinstance(inner, dict) else {"arguments": value}


def made_of_parts(content: Sequence[Raw]) -> bool:
    """Whether each element is a content part (an object with a type) or text. A tool's own list, of numbers or records,
    isn't."""
    return all(begins(raw, b'"') or (begins(raw, b"{") and _has_type(raw)) for raw in content)


def begins(raw: Raw, character: bytes) -> bool:
    """Whether the JSON value begins so; `character` tells its type. The value isn't copied: it may be an image."""
    return bytes(memoryview(raw)[:1]) == character


def _has_type(raw: Raw) -> bool:
    try:
        return isinstance(_TYPED.decode(raw).type, str)
    except msgspec.MsgspecError:
        return False


def texts_in(value: Any) -> list[str]:
    """The texts of reasoning that was sent back: a text, or a list of texts and of parts with a `text`."""
    pieces = value if isinstance(value, list) else [value]
    texts = [piece.get("text") if isinstance(piece, dict) else piece for piece in pieces]
    return [text for text in texts if isinstance(text, str) and text]


def plain_text(value: Any) -> str:
    """A tool's result as text: JSON, where it is an object or a number."""
    if value is None:
        return ""
    return value if isinstance(value, str) else _as_json(value)


def _as_json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _SURROGATE.sub("\ufffd", text)


def omitted(kind: str, name: str | None = None) -> str:
    """The placeholder for a part that can't be read."""
    return f"[{kind} {name!r} omitted: it can't be read here]" if name else f"[{kind} omitted: it can't be read here]"


def newest_input(roles: Sequence[str]) -> int:
    """The index of the user's message that nobody has answered yet, -1 if there is none. A last message of the
    assistant is the beginning of the answer."""
    end = len(roles) - 1 if roles and roles[-1] == "assistant" else len(roles)
    for index in range(end - 1, -1, -1):
        if roles[index] in ("user", "assistant"):
            return index if roles[index] == "user" else -1
    return -1
