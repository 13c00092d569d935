"""The OpenAI error envelope and the error's `type` word; Anthropic's lives with its dialect."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from cortex.dialects import sse
from cortex.errors import CortexError

__all__ = ["ErrorBody", "ErrorEnvelope", "error_type", "openai_error", "openai_error_frame"]

_TYPES = {403: "permission", 429: "rate_limit_error", 504: "timeout"}


class ErrorBody(Struct, frozen=True):
    """`code` is always a string: clients that type it fail on llama.cpp's integer."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorEnvelope(Struct, frozen=True):
    error: ErrorBody


def error_type(status: int) -> str:
    """OpenAI's `error.type` for an HTTP status."""
    return _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")


def openai_error(error: CortexError, request_id: str = "") -> bytes:  # noqa: ARG001 - an ErrorEncoder
    """The JSON body of an HTTP error."""
    body = ErrorBody(error.message, error_type(error.status), error.param, error.code)
    return msgspec.json.encode(ErrorEnvelope(body))


def openai_error_frame(error: CortexError) -> bytes:
    """The frame for an error after the stream has begun; the stream is closed behind it, with no finish chunk."""
    return sse.data_frame(openai_error(error))
