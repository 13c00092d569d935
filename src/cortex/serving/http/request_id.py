"""Who asks and under which id: request ids, and the headers every answer carries."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from litestar.datastructures import Headers

__all__ = ["RequestIdentity"]

_SAFE = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@dataclass(frozen=True, slots=True)
class RequestIdentity:
    """`id` is unique in the fleet even when a client repeats its `x-request-id`; `echo` is what it reads back."""

    id: str
    echo: str

    @classmethod
    def of(cls, headers: Headers) -> RequestIdentity:
        """From the client's `x-request-id` when it is a harmless word, else made up."""
        given = headers.get("x-request-id", "")
        if _SAFE.fullmatch(given):
            return cls(f"{given}.{secrets.token_hex(4)}", given)
        fresh = "req_" + secrets.token_hex(12)
        return cls(fresh, fresh)

    def headers(self) -> list[tuple[bytes, bytes]]:
        """OpenAI's and Anthropic's names for the same thing."""
        echo = self.echo.encode()
        return [(b"x-request-id", echo), (b"request-id", echo)]
