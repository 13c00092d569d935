"""All errors that cortex raises on purpose. Each has its HTTP status, its code and whether a retry can succeed.

CortexError
├── ConfigError                    a wrong file or flag of the operator (exit code 2; never sent over HTTP)
├── BadRequest                400  an invalid request
│   ├── ContextLengthExceeded
│   ├── UnsupportedValue
│   └── InvalidSchema
├── Unauthorized              401
├── Forbidden                 403
├── NotFound                  404
│   └── ModelNotFound
├── Conflict                  409  an order based on a state that has changed since (neurons' admin routes only)
├── PayloadTooLarge           413
├── RateLimited               429
├── InternalError             500
│   └── WorkerDied
├── Unavailable               503
│   ├── ModelLoading
│   ├── ModelLoadFailed
│   ├── NoRoom
│   ├── Overloaded
│   └── Draining
└── DeadlineExceeded          504

`code` is what clients see (OpenAI's `error.code`) and what `wire.events.Failed` carries between processes, where
`from_code` makes the error again. Dialects choose the envelope.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "BadRequest",
    "ConfigError",
    "Conflict",
    "ContextLengthExceeded",
    "CortexError",
    "DeadlineExceeded",
    "Draining",
    "Forbidden",
    "InternalError",
    "InvalidSchema",
    "ModelLoadFailed",
    "ModelLoading",
    "ModelNotFound",
    "NoRoom",
    "NotFound",
    "Overloaded",
    "PayloadTooLarge",
    "RateLimited",
    "Unauthorized",
    "Unavailable",
    "UnsupportedValue",
    "WorkerDied",
    "from_code",
]


_LONGEST_MESSAGE = 16_000
"""Characters. Messages repeat what clients sent, and clients may send 64 MiB; all names of a large fleet fit."""


class CortexError(Exception):
    """Base of all errors raised on purpose; any other exception is a bug.

    `message` is shown to the caller and should say what to do. `param` names the field at fault as the client wrote it.
    `retry_after` is the value of the Retry-After header, in whole seconds (Zed parses integers only).
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, param: str | None = None, retry_after: int | None = None) -> None:
        if len(message) > _LONGEST_MESSAGE:
            message = f"{message[:_LONGEST_MESSAGE]}… ({len(message)} characters)"
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after


class ConfigError(CortexError):
    """A configuration file, environment variable or flag is wrong."""

    code = "config_error"


class BadRequest(CortexError):
    """The request is invalid; sending it again fails again."""

    status = 400
    code = "invalid_request"


class ContextLengthExceeded(BadRequest):
    """The prompt, or prompt and answer together, exceed the model's context.

    The message says "maximum context length is N tokens", OpenAI's words: pi, opencode, Cline and OpenHands look for
    them to compact their history.
    """

    code = "context_length_exceeded"


class UnsupportedValue(BadRequest):
    """A valid field with a value that this server or model doesn't support."""

    code = "unsupported_value"


class InvalidSchema(BadRequest):
    """A JSON Schema or grammar that can't be enforced."""

    code = "invalid_schema"


class Unauthorized(CortexError):
    """No API key, or an unknown one."""

    status = 401
    code = "invalid_api_key"


class Forbidden(CortexError):
    """Refused for good: the key lacks a permission, an operator cancelled the request, a repository is gated."""

    status = 403
    code = "forbidden"


class NotFound(CortexError):
    """There is no such path, neuron, request or stored response."""

    status = 404
    code = "not_found"


class ModelNotFound(NotFound):
    """There is no model of this name."""

    code = "model_not_found"


class Conflict(CortexError):
    """An order based on a revision of the neuron's state that is no longer the current one."""

    status = 409
    code = "conflict"


class PayloadTooLarge(CortexError):
    """The request's body exceeds `limits.body_bytes`."""

    status = 413
    code = "request_too_large"


class RateLimited(CortexError):
    """Too many requests of this caller; a retry after `retry_after` can succeed."""

    status = 429
    code = "rate_limit_exceeded"
    retryable = True


class InternalError(CortexError):
    """A fault of cortex or llama.cpp, not of the request."""

    status = 500
    code = "internal_error"


class WorkerDied(InternalError):
    """The worker process that ran the request ended."""

    code = "worker_died"
    retryable = True


class Unavailable(CortexError):
    """The server can't do this now, or can't be reached."""

    status = 503
    code = "unavailable"
    retryable = True


class ModelLoading(Unavailable):
    """The model is being loaded and the request doesn't wait for it."""

    code = "model_loading"


class ModelLoadFailed(Unavailable):
    """The model's load failed."""

    code = "model_load_failed"
    retryable = False


class NoRoom(Unavailable):
    """No device has memory for the model, not even by evicting what may be evicted."""

    code = "no_room"
    retryable = False


class Overloaded(Unavailable):
    """The model's queue is full, or a request waited in it too long."""

    code = "server_is_overloaded"


class Draining(Unavailable):
    """What should serve the request is going out of service: a process, a neuron, or a model being unloaded."""

    code = "draining"


class DeadlineExceeded(CortexError):
    """The request's time limit has passed."""

    status = 504
    code = "timeout"
    retryable = True


def _subclasses(cls: type[CortexError]) -> list[type[CortexError]]:
    return [cls] + [leaf for child in cls.__subclasses__() for leaf in _subclasses(child)]


_BY_CODE = {cls.code: cls for cls in reversed(_subclasses(CortexError))}


def from_code(code: str, message: str, *, param: str | None = None, retry_after: int | None = None) -> CortexError:
    """The error that another process sent as `code`; an unknown code, e.g. from a newer peer, is an InternalError."""
    return _BY_CODE.get(code, InternalError)(message, param=param, retry_after=retry_after)
