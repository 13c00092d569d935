"""The routes of OpenAI's Responses API, the only dialect with state: finished responses are kept in a store."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from litestar import Litestar, Request, Response, delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.types import ASGIApp, Receive, Scope

from cortex.config.settings import ResponsesConfig
from cortex.dialects.openai.objects import openai_error
from cortex.dialects.openai.responses.body import ResponsesBody
from cortex.dialects.openai.responses.objects import deleted_reply
from cortex.dialects.openai.responses.request import parse_responses, previous_id
from cortex.dialects.openai.responses.stored import StoredResponse
from cortex.errors import NotFound, UnsupportedValue
from cortex.serving.exchange.exchange import Exchange, ExchangeContext
from cortex.serving.http.fast_routes import FAST_ROUTE
from cortex.serving.http.openapi import RequestSchemas
from cortex.serving.http.request_reader import RequestReader
from cortex.serving.response_store.memory import MemoryResponseStore, ResponseStore
from cortex.serving.response_store.sqlite import SqliteResponseStore

__all__ = ["closing_store", "make_store", "response_routes"]


def make_store(config: ResponsesConfig) -> ResponseStore:
    """The store in memory, or in the SQLite file that the config names. Raises ConfigError when it can't be opened."""
    if config.store is None:
        return MemoryResponseStore(config.max_entries, config.max_age_s, time.time)
    return SqliteResponseStore(Path(config.store).expanduser(), config.max_entries, config.max_age_s, time.time)


@asynccontextmanager
async def closing_store(store: ResponseStore, _: Litestar) -> AsyncIterator[None]:
    """A lifespan that closes the store's file after the last request."""
    try:
        yield
    finally:
        if isinstance(store, SqliteResponseStore):
            await store.close()


def response_routes(
    context: ExchangeContext, reader: RequestReader, store: ResponseStore, schemas: RequestSchemas
) -> list[HTTPRouteHandler]:
    """Create, read and delete. Only the principal that created a response can read, continue or delete it."""

    async def prepare(scope: Scope, receive: Receive) -> ASGIApp:
        received = await reader.read(scope, receive)
        wanted = previous_id(received.body)
        previous = await store.get(wanted, scope["auth"]) if wanted else None
        kept: list[StoredResponse] = []
        parse = partial(parse_responses, previous=previous, keep=kept.append)
        call = await reader.parse(received, parse)

        async def put_kept() -> None:
            """Runs before the last bytes are sent, because the client may continue this response at once."""
            for response in kept:
                await store.put(response)

        return Exchange(
            context,
            call,
            received.identity,
            dialect="openai_responses",
            encode_error=openai_error,
            before_end=put_kept,
        )

    @post(
        ["/v1/responses", "/responses"],
        name="openai_responses",
        status_code=200,
        operation_class=schemas.operation(ResponsesBody),
        opt={FAST_ROUTE: prepare},
    )
    async def create(request: Request[Any, Any, Any]) -> ASGIApp:
        """OpenAI responses."""
        return await prepare(request.scope, request.receive)

    @get("/v1/responses/{response_id:str}")
    async def retrieve(request: Request[Any, Any, Any], response_id: FromPath[str]) -> Response[bytes]:
        """A stored response, to the key that created it."""
        if request.query_params.get("stream") == "true":
            raise UnsupportedValue("a stored response can't be streamed; leave out stream", param="stream")
        found = await store.get(response_id, request.auth)
        if found is None:
            raise _not_found(response_id)
        return Response(bytes(found.body), media_type="application/json")

    @delete("/v1/responses/{response_id:str}", status_code=200)
    async def remove(request: Request[Any, Any, Any], response_id: FromPath[str]) -> Response[bytes]:
        """Delete a stored response."""
        if not await store.delete(response_id, request.auth):
            raise _not_found(response_id)
        return Response(deleted_reply(response_id), media_type="application/json")

    return [create, retrieve, remove]


def _not_found(response_id: str) -> NotFound:
    return NotFound(f"there is no stored response {response_id!r}; it may have expired", param="response_id")
