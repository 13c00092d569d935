"""Files in requests: the text of those that hold text."""

from __future__ import annotations

import base64
import binascii

from cortex.dialects.history import omitted
from cortex.errors import BadRequest, UnsupportedValue
from cortex.wire.inference import Text

__all__ = ["data_uri_file", "text_file"]

_TEXT_TYPES = ("application/json", "application/xml", "application/yaml", "application/x-yaml", "application/toml")


def text_file(data: str, mime: str, name: str | None, param: str, *, new: bool) -> Text:
    """The text of the file in base64 `data`, below its name. A file that can't be read is a placeholder in the history;
    in new input it raises UnsupportedValue when it isn't text, BadRequest when it can't be decoded."""
    try:
        text = _decoded(data, mime, name, param)
    except BadRequest:
        if new:
            raise
        return Text(omitted("file", name))
    return Text(f"{name}\n\n{text}" if name else text)


def data_uri_file(uri: str, name: str | None, param: str, *, new: bool) -> Text:
    """`text_file` for a data URI (`data:text/plain;base64,…`), OpenAI's form of a file."""
    head, _, data = uri.partition(",")
    return text_file(data, head.removeprefix("data:"), name, param, new=new)


def _decoded(data: str, mime: str, name: str | None, param: str) -> str:
    kind = mime.partition(";")[0].strip().lower()
    if not kind.startswith("text/") and kind not in _TEXT_TYPES:
        shown = f"{name!r} ({kind})" if name else kind or "a file"
        raise UnsupportedValue(f"only text files are supported, not {shown}: send its text", param=param)
    try:
        return base64.b64decode("".join(data.split()), validate=True).decode()
    except (binascii.Error, ValueError):
        raise BadRequest(f"the file {name or ''} is not base64 of UTF-8 text", param=param) from None
