"""Error responses in the form of the client's dialect.

The dialect is that of the route; on shared routes and unknown paths the request's headers decide.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from litestar import Request, Response
from litestar.datastructures import Headers as RequestHeaders
from litestar.exceptions import HTTPException
from litestar.types import Scope, Send

from cortex.dialects.anthropic.reply import anthropic_error
from cortex.dialects.base import ErrorEncoder
from cortex.dialects.openai.objects import openai_error
from cortex.errors import BadRequest, CortexError, InternalError, NotFound, PayloadTooLarge
from cortex.serving.exchange.response_writer import Headers, ResponseWriter
from cortex.serving.http.request_id import RequestId

__all__ = ["CompressedBody", "ErrorReply", "MethodNotAllowed", "as_cortex_error", "handle_exception", "send_error"]

logger = logging.getLogger(__name__)

_SHOWN_PATH = 200
"""Characters of an unknown path that the error message repeats."""


class MethodNotAllowed(CortexError):
    """`allowed` are the methods that the path has."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, allowed: Sequence[str]) -> None:
        self.allowed = ", ".join(sorted({*allowed, *(["HEAD"] if "GET" in allowed else [])}))
        super().__init__(f"method not allowed on this path; allowed: {self.allowed}")


class CompressedBody(CortexError):
    status = 415
    code = "unsupported_encoding"

    def __init__(self, encoding: str) -> None:
        super().__init__(f"compressed bodies are not supported (content-encoding: {encoding}); send it uncompressed")


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An error as an HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @classmethod
    def of(cls, error: CortexError, encode: ErrorEncoder, request_id: str) -> ErrorReply:
        return cls(error.status, _headers(error), encode(error, request_id))

    async def send(self, send: Send, more_headers: Headers) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self._all_headers(more_headers)})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})

    def write(self, writer: ResponseWriter, more_headers: Headers) -> None:
        writer.start(self.status, self._all_headers(more_headers))
        writer.write(self.body, more=False)

    def _all_headers(self, more: Headers) -> Headers:
        own = [(name.encode(), value.encode()) for name, value in self.headers.items()]
        return [*own, (b"content-length", b"%d" % len(self.body)), *more]


def _headers(error: CortexError) -> dict[str, str]:
    """The headers of an error. `x-should-retry` overrides what the openai and anthropic SDKs derive from the status."""
    headers = {"content-type": "application/json"}
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    if error.status >= 500:
        headers["x-should-retry"] = "true" if error.retryable else "false"
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    if isinstance(error, MethodNotAllowed):
        headers["allow"] = error.allowed
    if isinstance(error, CompressedBody):
        headers["accept-encoding"] = "identity"
    return headers


def as_cortex_error(exception: BaseException, path: str = "") -> CortexError:
    """The error for any exception. One that is neither ours nor litestar's is logged, and its text is kept from the
    client."""
    if isinstance(exception, CortexError):
        return exception
    if isinstance(exception, HTTPException):
        return _from_litestar(exception, path)
    logger.error("unexpected error", exc_info=exception)
    return InternalError("an internal error occurred; the server's log has the details")


def _from_litestar(exception: HTTPException, path: str) -> CortexError:
    match exception.status_code:
        case 404:
            hint = ", and the client's base URL names /v1 twice" if "/v1/v1/" in path else ""
            return NotFound(f"no such path: {path[:_SHOWN_PATH]}; the API lives under /v1{hint}")
        case 405:
            return MethodNotAllowed((exception.headers or {}).get("allow", "").split(", "))
        case 413:
            return PayloadTooLarge("the body is larger than this server accepts (limits.body_bytes)")
        case status if status < 500:
            return BadRequest(exception.detail)
        case _:
            return InternalError(exception.detail)


def handle_exception(request: Request[Any, Any, Any], exception: Exception) -> Response[bytes]:
    """The exception handler of the litestar application. Requests for inference have a line of their own in the log."""
    error, identity = as_cortex_error(exception, request.scope["path"]), RequestId.of(request.headers)
    reply = _reply(request.scope, error, identity)
    logger.info(
        "request refused",
        extra={
            "id": identity.id,
            "method": request.method,
            "path": request.scope["path"][:_SHOWN_PATH],
            "status": error.status,
            "code": error.code,
        },
    )
    headers = reply.headers | {name.decode(): value.decode() for name, value in identity.headers()}
    return Response(reply.body, status_code=reply.status, headers=headers, media_type="application/json")


async def send_error(scope: Scope, send: Send, error: CortexError, identity: RequestId) -> None:
    """Sends the error response for a request that bypassed litestar."""
    await _reply(scope, error, identity).send(send, identity.headers())


def _reply(scope: Scope, error: CortexError, identity: RequestId) -> ErrorReply:
    headers = RequestHeaders.from_scope(scope)
    is_anthropic = scope["path"].startswith(("/v1/messages", "/messages")) or "anthropic-version" in headers
    encode = anthropic_error if is_anthropic else openai_error
    return ErrorReply.of(error, encode, identity.echo)
