"""Reading a JSON body into a typed struct, with errors that say where the caller went wrong."""

from __future__ import annotations

import codecs
import re
from typing import TypeVar

import msgspec

from cortex.errors import BadRequest

__all__ = ["decode_body", "portable"]

T = TypeVar("T")

_AT = re.compile(r"^(?P<what>.*) - at `\$\.?(?P<path>[^`]*)`$", re.DOTALL)
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<lone>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)
"""JSON escapes. JavaScript clients that cut a text in the middle of an emoji send half of its surrogate pair, in every
later request of that conversation too: it is read as U+FFFD instead of being refused for ever."""
_MISSING = re.compile(r"missing required field `(?P<key>[^`]*)`")


def decode_body(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw, where: str = "") -> T:
    """`body` as the decoder's type. Raises BadRequest whose `param` is the path of the offending field.

    `where` is the path of `body` itself, for a piece decoded after the whole (`messages[3].content[0]`).
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _explained(str(error), where) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raw = bytes(body)
        if (repaired := _ESCAPE.sub(_whole, raw.removeprefix(codecs.BOM_UTF8))) != raw:
            return decode_body(decoder, repaired, where)
        if not raw.strip():
            raise BadRequest("the body is empty; send a JSON object") from None
        raise BadRequest(f"the body is not valid JSON: {error}") from None
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None


def portable(value: T, param: str) -> T:
    """`value`, free-form JSON that must cross the wire. Raises BadRequest for integers wider than 64 bits."""
    try:
        msgspec.msgpack.encode(value)
    except OverflowError:
        raise BadRequest(f"{param}: integers must fit into 64 bits", param=param) from None
    return value


def _whole(escape: re.Match[bytes]) -> bytes:
    return escape.group() if escape["lone"] is None else b"\\ufffd"


def _explained(text: str, where: str) -> BadRequest:
    at = _AT.match(text)
    what, path = (at["what"], ".".join(filter(None, [where, at["path"]]))) if at else (text, where)
    if missing := _MISSING.search(what):
        path = ".".join(filter(None, [path, missing["key"]]))
        return BadRequest(f"{path} is required", param=path)
    return BadRequest(f"{path or 'body'}: {what[0].lower()}{what[1:]}", param=path or None)
