"""From an HTTP request to a parsed call: body, identity, and the images that have to be fetched first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from litestar import Request

from cortex.dialects.base import Call, CallContext
from cortex.dialects.images import Images
from cortex.errors import BadRequest
from cortex.serving.exchange import Service
from cortex.serving.identity import RequestIdentity
from cortex.serving.images import ImageFetcher

__all__ = ["Arrived", "Intake"]

Parse = Callable[[bytes, CallContext], Call]


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request whose body has been read."""

    body: bytes
    identity: RequestIdentity
    context: CallContext


class Intake:
    """Reads and parses client requests; made once per application."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._images = ImageFetcher(service.config.images)

    async def read(self, request: Request[Any, Any, Any]) -> Arrived:
        """Raises Draining while the server shuts down, and what reading the body raises (413)."""
        self._service.lifecycle.refuse_when_draining()
        identity = RequestIdentity.of(request.headers)
        context = CallContext(
            request_id=identity.id,
            created=int(time.time()),
            resolve=self._service.backend.resolve,
            principal=request.auth,
            headers=request.headers,
            images=Images(allowed=self._images.allowed),
        )
        return Arrived(await self._body(request), identity, context)

    async def _body(self, request: Request[Any, Any, Any]) -> bytes:
        limit = self._service.config.limits.stall_s
        try:
            async with asyncio.timeout(limit):
                return await request.body()
        except TimeoutError:
            raise BadRequest(f"the body did not arrive within {limit:g} s") from None

    async def parse(self, arrived: Arrived, parse: Parse) -> Call:
        """The call; parsed a second time when it turned out that images had to be fetched. Raises BadRequest & co."""
        images = arrived.context.images
        call = parse(arrived.body, arrived.context)
        if images.missing:
            images.fetched.update(await self._images.fetch(images.missing))
            images.missing.clear()
            call = parse(arrived.body, arrived.context)
        return call
