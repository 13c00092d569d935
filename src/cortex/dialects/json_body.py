"""Decoding a JSON body into a typed struct, with errors that name the field at fault."""

from __future__ import annotations

import codecs
import re
from decimal import Decimal
from typing import TypeVar

import msgspec
from msgspec import Raw

from cortex.errors import BadRequest

__all__ = ["decode_body", "wire_safe"]

T = TypeVar("T")

_AT = re.compile(r"^(?P<what>.*) - at `\$\.?(?P<path>[^`]*)`$", re.DOTALL)
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<lone>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)
"""JSON escapes; `lone` matches half of a surrogate pair. JavaScript clients that cut a text inside an emoji send one,
and repeat it in every later request of the conversation: it is decoded as U+FFFD, since rejecting it would end the
conversation."""
_FLOAT = re.compile(r"^Expected `[^`]*\bint\b[^`]*`, got `float`(?: - at `\$(?P<path>[^`]*)`)?$")
_STEP = re.compile(r"\[[^\]]*\]|[^.\[\]]+")
_NUMBER = re.compile(rb"\s*-?\d+(\.\d+)?([eE][+-]?\d{1,3})?\s*")
_MOST_DIGITS = 309  # of the largest float
_MISSING = re.compile(r"missing required field `(?P<key>[^`]*)`")


def decode_body(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw, where: str = "") -> T:
    """`body` decoded as the decoder's type. Raises BadRequest whose `param` is the path of the field at fault.

    `where` is the path of `body` itself when it is a part of a larger body (`messages[3].content[0]`). A whole number
    written as a float (`4096.0`, `1e1`) is accepted as an integer: JSON doesn't tell the two apart, and some languages'
    encoders write all numbers so.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        if (integral := _with_integers(Raw(body), str(error))) is not None:
            return decode_body(decoder, integral, where)
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


def wire_safe(value: T, param: str) -> T:
    """`value` (free-form JSON), unchanged. Raises BadRequest for integers wider than 64 bits, which msgpack lacks."""
    try:
        msgspec.msgpack.encode(value)
    except OverflowError:
        raise BadRequest(f"{param}: integers must fit into 64 bits", param=param) from None
    return value


def _whole(escape: re.Match[bytes]) -> bytes:
    return escape.group() if escape["lone"] is None else b"\\ufffd"


def _with_integers(body: Raw, problem: str) -> Raw | None:
    """`body` with the whole floats at the place that `problem` names as integers; None if there are none.

    The rest of the body keeps its text. Of a list all elements are rewritten, since msgspec reports one at a time.
    """
    at = _FLOAT.match(problem)
    if at is None:
        return None
    rewritten = _rewritten(body, _STEP.findall(at["path"] or ""))
    return None if bytes(rewritten) == bytes(body) else rewritten


def _rewritten(value: Raw, path: list[str]) -> Raw:
    text = bytes(value)
    kind = text.lstrip()[:1]
    if kind == b"[":
        elements = msgspec.json.decode(text, type=list[Raw])
        return Raw(msgspec.json.encode([_rewritten(element, path[1:]) for element in elements]))
    if kind == b"{" and path:
        fields = msgspec.json.decode(text, type=dict[str, Raw])
        chosen = fields if path[0].startswith("[") else fields.keys() & {path[0]}
        changed = {key: _rewritten(fields[key], path[1:]) for key in chosen}
        return Raw(msgspec.json.encode(fields | changed))
    return value if path or not _NUMBER.fullmatch(text) else Raw(_integer(text))


def _integer(number: bytes) -> bytes:
    value = Decimal(number.decode())
    if value.adjusted() >= _MOST_DIGITS or value != value.to_integral_value():
        return number
    return str(int(value)).encode()


def _explained(text: str, where: str) -> BadRequest:
    at = _AT.match(text)
    what, path = (at["what"], ".".join(filter(None, [where, at["path"]]))) if at else (text, where)
    if missing := _MISSING.search(what):
        path = ".".join(filter(None, [path, missing["key"]]))
        return BadRequest(f"{path} is required", param=path)
    return BadRequest(f"{path or 'body'}: {what[0].lower()}{what[1:]}", param=path or None)
