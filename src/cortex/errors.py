"""The one error tree. An error knows its HTTP status, its code and whether trying again can help.

CortexError
├── ConfigError                    the operator's file or flag is wrong (exit 2, never crosses HTTP)
├── BadRequest                400  the caller's mistake
│   ├── ContextLengthExceeded
│   ├── UnsupportedValue
│   └── InvalidSchema
├── Unauthorized              401
├── Forbidden                 403
├── NotFound                  404
│   └── ModelNotFound
├── Conflict                  409  decided on a state that has changed (neuron admin API only)
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

`code` is the machine-readable word clients see (OpenAI's `error.code`) and the word that crosses the wire in
`wire.events.Failed`; `from_code` brings the error back on the other side. Dialects choose the envelope.
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


class CortexError(Exception):
    """Base of everything cortex raises on purpose; any other exception is a bug.

    `message` is shown to the caller, so it says what to do. `param` names the offending field as the client wrote
    it. `retry_after` is in whole seconds (Zed parses integers only).
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, param: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after


class ConfigError(CortexError):
    code = "config_error"


class BadRequest(CortexError):
    status = 400
    code = "invalid_request"


class ContextLengthExceeded(BadRequest):
    code = "context_length_exceeded"


class UnsupportedValue(BadRequest):
    code = "unsupported_value"


class InvalidSchema(BadRequest):
    code = "invalid_schema"


class Unauthorized(CortexError):
    status = 401
    code = "invalid_api_key"


class Forbidden(CortexError):
    status = 403
    code = "forbidden"


class NotFound(CortexError):
    status = 404
    code = "not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"


class Conflict(CortexError):
    status = 409
    code = "conflict"


class PayloadTooLarge(CortexError):
    status = 413
    code = "request_too_large"


class RateLimited(CortexError):
    status = 429
    code = "rate_limit_exceeded"
    retryable = True


class InternalError(CortexError):
    status = 500
    code = "internal_error"


class WorkerDied(InternalError):
    code = "worker_died"
    retryable = True


class Unavailable(CortexError):
    status = 503
    code = "unavailable"
    retryable = True


class ModelLoading(Unavailable):
    code = "model_loading"


class ModelLoadFailed(Unavailable):
    code = "model_load_failed"
    retryable = False


class NoRoom(Unavailable):
    """No device can hold the model: pins, busy models or plain size stand in the way."""

    code = "no_room"
    retryable = False


class Overloaded(Unavailable):
    code = "server_is_overloaded"


class Draining(Unavailable):
    code = "draining"


class DeadlineExceeded(CortexError):
    status = 504
    code = "timeout"
    retryable = True


def _subclasses(cls: type[CortexError]) -> list[type[CortexError]]:
    return [cls] + [leaf for child in cls.__subclasses__() for leaf in _subclasses(child)]


_BY_CODE = {cls.code: cls for cls in reversed(_subclasses(CortexError))}


def from_code(code: str, message: str, *, param: str | None = None, retry_after: int | None = None) -> CortexError:
    """The error that another process named by `code`; an unknown code (a newer peer) is an InternalError."""
    return _BY_CODE.get(code, InternalError)(message, param=param, retry_after=retry_after)
