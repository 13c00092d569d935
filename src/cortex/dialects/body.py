"""Reading a JSON body into a typed struct, with errors that say where the caller went wrong."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from cortex.errors import BadRequest

__all__ = ["decode_body"]

T = TypeVar("T")

_AT = re.compile(r"^(?P<what>.*) - at `\$\.?(?P<path>[^`]*)`$", re.DOTALL)
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
        raise BadRequest(f"the body is not valid JSON: {error}") from None
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None


def _explained(text: str, where: str) -> BadRequest:
    at = _AT.match(text)
    what, path = (at["what"], ".".join(filter(None, [where, at["path"]]))) if at else (text, where)
    if missing := _MISSING.search(what):
        path = ".".join(filter(None, [path, missing["key"]]))
        return BadRequest(f"{path} is required", param=path)
    return BadRequest(f"{path or 'body'}: {what[0].lower()}{what[1:]}", param=path or None)
