"""Reads and parses client requests: body, request id, and the images that the request refers to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from litestar.datastructures import Headers
from litestar.types import Receive, Scope

from cortex.config.settings import Config, ImagesConfig, parse_bytes
from cortex.dialects.base import Call, CallContext
from cortex.dialects.images import Images
from cortex.errors import BadRequest, PayloadTooLarge
from cortex.serving.exchange.exchange import ExchangeContext
from cortex.serving.http.errors import CompressedBody
from cortex.serving.http.request_id import RequestId

if TYPE_CHECKING:
    from cortex.serving.http.image_fetcher import ImageFetcher

__all__ = ["ReceivedRequest", "RequestReader"]

Parse = Callable[[bytes, CallContext], Call]


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request whose body has been read. `context` is what the dialect parses it with."""

    body: bytes
    identity: RequestId
    context: CallContext


class RequestReader:
    """Reads and parses client requests. One object per application."""

    def __init__(self, context: ExchangeContext) -> None:
        self._context = context
        self._config = context.config
        self._apply(self._config)

    def _apply(self, config: Config) -> None:
        self._config = config
        self._images = _maybe_fetcher(config.images)
        self._most_bytes = parse_bytes(config.limits.body_bytes)

    async def read(self, scope: Scope, receive: Receive) -> ReceivedRequest:
        """Reads the body. Raises Draining while the server shuts down, PayloadTooLarge, CompressedBody, and BadRequest
        when the body doesn't arrive within `limits.stall_s`."""
        self._context.lifecycle.refuse_when_draining()
        if (config := self._context.config) is not self._config:
            self._apply(config)
        headers = Headers.from_scope(scope)
        identity = RequestId.of(headers)
        context = CallContext(
            request_id=identity.id,
            created=int(time.time()),
            resolve=self._context.backend.resolve,
            echo=identity.echo,
            principal=scope["auth"],
            headers=headers,
            images=Images(allowed=self._images is not None),
        )
        return ReceivedRequest(await self._body(headers, receive), identity, context)

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        limit = self._context.config.limits.stall_s
        if (encoding := headers.get("content-encoding", "identity").strip().lower()) not in ("identity", ""):
            raise CompressedBody(encoding)
        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self._most_bytes:
            raise _too_large()
        try:
            async with asyncio.timeout(limit):
                return await _whole_body(receive, self._most_bytes)
        except TimeoutError:
            raise BadRequest(f"the body did not arrive within {limit:g} s") from None

    async def parse(self, received: ReceivedRequest, parse: Parse) -> Call:
        """The parsed call. The body is parsed a second time if images have to be fetched, or if the model takes none.

        Raises what `parse` raises, and BadRequest for new images that the model can't take, or that can't be fetched.
        """
        images = received.context.images
        call = parse(received.body, received.context)
        if images.any and (blind := self._text_model({request.model for request in call.requests})):
            images.blind = blind
            images.missing.clear()
            images.older.clear()
            call = parse(received.body, received.context)
        fetcher = self._images
        if fetcher is not None and (images.missing or images.older):
            await self._fetch(images, fetcher)
            call = parse(received.body, received.context)
        return call

    async def _fetch(self, images: Images, fetcher: ImageFetcher) -> None:
        images.fetched.update(await fetcher.fetch(images.missing))
        found, images.gone = await fetcher.fetch_older(images.older, fetcher.most - len(images.fetched))
        images.fetched.update(found)

    def _text_model(self, models: set[str]) -> str | None:
        """The one of `models` that has no vision encoder. Asked before a model is loaded, and another evicted for it.

        Of a model whose file isn't downloaded yet (no architecture) it isn't known whether it comes with a projector.
        """
        cards = (status.card for status, _ in self._context.backend.models())
        blind = (card.id for card in cards if card.architecture and not card.capabilities.vision)
        return next((model for model in blind if model in models), None)


def _maybe_fetcher(config: ImagesConfig) -> ImageFetcher | None:
    """The fetcher if `images.fetch` is set. Imported only then: the HTTP client takes a large part of a role's import
    time."""
    if not config.fetch:
        return None
    from cortex.serving.http.image_fetcher import ImageFetcher  # noqa: PLC0415 - see above

    return ImageFetcher(config)


async def _whole_body(receive: Receive, most_bytes: int) -> bytes:
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise BadRequest("the connection was closed before the body was complete")
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
        size += len(parts[-1])
        if size > most_bytes:
            raise _too_large()
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large() -> PayloadTooLarge:
    return PayloadTooLarge("the body is larger than this server accepts (limits.body_bytes)")
