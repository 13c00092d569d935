"""Request ids, and the response headers that contain them."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from litestar.datastructures import Headers

__all__ = ["RequestId"]

_SAFE = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@dataclass(frozen=True, slots=True)
class RequestId:
    """`id` is unique in the fleet, even if a client repeats its `x-request-id`; `echo` is sent back to the client."""

    id: str
    echo: str

    @classmethod
    def of(cls, headers: Headers) -> RequestId:
        """From the client's `x-request-id` if it has safe characters and at most 128 of them, else random."""
        given = headers.get("x-request-id", "")
        if _SAFE.fullmatch(given):
            return cls(f"{given}.{secrets.token_hex(4)}", given)
        fresh = "req_" + secrets.token_hex(12)
        return cls(fresh, fresh)

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The response headers: OpenAI's name (`x-request-id`) and Anthropic's (`request-id`)."""
        echo = self.echo.encode()
        return [(b"x-request-id", echo), (b"request-id", echo)]
