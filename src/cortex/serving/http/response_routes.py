"""The Responses API: the one dialect with state, kept in a bounded store."""

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
from cortex.dialects.openai.envelope import openai_error
from cortex.dialects.openai.responses import request as responses_request
from cortex.dialects.openai.responses.body import Body
from cortex.dialects.openai.responses.stored import MemoryResponseStore, ResponseStore, StoredResponse, deleted_reply
from cortex.errors import NotFound, UnsupportedValue
from cortex.serving.exchange.exchange import Exchange, ExchangeContext
from cortex.serving.http.openapi import BodyDocuments
from cortex.serving.http.request_reader import Intake
from cortex.serving.response_store.sqlite import SqliteResponseStore

__all__ = ["closing_store", "make_store", "response_routes"]


def make_store(config: ResponsesConfig) -> ResponseStore:
    """In memory, or in the SQLite file that the config names. Raises ConfigError when that can't be opened."""
    if config.store is None:
        return MemoryResponseStore(config.max_entries, config.max_age_s, time.time)
    return SqliteResponseStore(Path(config.store).expanduser(), config.max_entries, config.max_age_s, time.time)


@asynccontextmanager
async def closing_store(store: ResponseStore, _: Litestar) -> AsyncIterator[None]:
    """A lifespan that closes the store's file behind the last request."""
    try:
        yield
    finally:
        if isinstance(store, SqliteResponseStore):
            await store.close()


def response_routes(
    context: ExchangeContext, intake: Intake, store: ResponseStore, documents: BodyDocuments
) -> list[HTTPRouteHandler]:
    """Create, read and delete. What one principal stored, no other finds."""

    async def begin(scope: Scope, receive: Receive) -> ASGIApp:
        arrived = await intake.read(scope, receive)
        wanted = responses_request.previous_id(arrived.body)
        previous = await store.get(wanted, scope["auth"]) if wanted else None
        kept: list[StoredResponse] = []
        parse = partial(responses_request.parse_responses, previous=previous, keep=kept.append)
        call = await intake.parse(arrived, parse)

        async def put_kept() -> None:
            """Before the client reads the end: it may go on from this response at once."""
            for response in kept:
                await store.put(response)

        return Exchange(
            context,
            call,
            arrived.identity,
            dialect="openai_responses",
            encode_error=openai_error,
            before_end=put_kept,
        )

    @post(
        ["/v1/responses", "/responses"],
        name="openai_responses",
        status_code=200,
        operation_class=documents.operation(Body),
        opt={"direct": begin},
    )
    async def create(request: Request[Any, Any, Any]) -> ASGIApp:
        return await begin(request.scope, request.receive)

    @get("/v1/responses/{response_id:str}")
    async def retrieve(request: Request[Any, Any, Any], response_id: FromPath[str]) -> Response[bytes]:
        if request.query_params.get("stream") == "true":
            raise UnsupportedValue("a stored response can't be streamed: read it whole", param="stream")
        found = await store.get(response_id, request.auth)
        if found is None:
            raise _not_found(response_id)
        return Response(bytes(found.body), media_type="application/json")

    @delete("/v1/responses/{response_id:str}", status_code=200)
    async def remove(request: Request[Any, Any, Any], response_id: FromPath[str]) -> Response[bytes]:
        if not await store.delete(response_id, request.auth):
            raise _not_found(response_id)
        return Response(deleted_reply(response_id), media_type="application/json")

    return [create, retrieve, remove]


def _not_found(response_id: str) -> NotFound:
    return NotFound(f"there is no stored response {response_id!r}; it may have expired", param="response_id")
