"""The client routes both roles mount."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.types import ASGIApp, Receive, Scope

import cortex
from cortex.dialects.openai import models
from cortex.dialects.openai.responses.stored import ResponseStore
from cortex.errors import ModelNotFound
from cortex.serving.exchange.exchange import Exchange, ExchangeContext
from cortex.serving.http.endpoints import Endpoint
from cortex.serving.http.openapi import BodyDocuments
from cortex.serving.http.request_id import RequestIdentity
from cortex.serving.http.request_reader import Intake
from cortex.serving.http.response_routes import response_routes

__all__ = ["client_routes"]


def client_routes(
    context: ExchangeContext, store: ResponseStore, table: list[Endpoint], documents: BodyDocuments
) -> list[HTTPRouteHandler]:
    """Every route that a client of either role may call."""
    intake = Intake(context)
    return [
        *(_inference_route(endpoint, context, intake, documents) for endpoint in table),
        *response_routes(context, intake, store, documents),
        *_model_routes(context),
        *_status_routes(context),
    ]


def _inference_route(
    endpoint: Endpoint, context: ExchangeContext, intake: Intake, documents: BodyDocuments
) -> HTTPRouteHandler:
    async def begin(scope: Scope, receive: Receive) -> ASGIApp:
        arrived = await intake.read(scope, receive)
        call = await intake.parse(arrived, endpoint.parse)
        return Exchange(context, call, arrived.identity, dialect=endpoint.name, encode_error=endpoint.encode_error)

    @post(
        list(endpoint.paths),
        name=endpoint.name,
        summary=endpoint.name.replace("_", " "),
        status_code=200,
        operation_class=documents.operation(endpoint.body),
        opt={"direct": begin},
    )
    async def infer(request: Request[Any, Any, Any]) -> ASGIApp:
        return await begin(request.scope, request.receive)

    return infer


def _model_routes(context: ExchangeContext) -> list[HTTPRouteHandler]:
    @get(["/v1/models", "/api/v0/models"], sync_to_thread=False)
    def list_models(request: Request[Any, Any, Any]) -> Response[bytes]:
        return _json(models.listing(context.backend.models(), _style(request)), request)

    @get(["/v1/models/{model_id:path}", "/api/v0/models/{model_id:path}"], sync_to_thread=False)
    def get_model(request: Request[Any, Any, Any], model_id: FromPath[str]) -> Response[bytes]:
        wanted = context.backend.resolve(model_id.strip("/"))
        for status, neurons in context.backend.models():
            if status.card.id == wanted:
                return _json(models.entry(status, neurons, _style(request)), request)
        raise ModelNotFound(f"there is no model {wanted!r}", param="model")

    return [list_models, get_model]


def _status_routes(context: ExchangeContext) -> list[HTTPRouteHandler]:
    @get("/health", sync_to_thread=False, opt={"public": True})
    def health() -> Response[dict[str, str]]:
        """200 while new requests are taken, 503 while draining and where nobody could serve them."""
        if context.lifecycle.draining:
            return Response({"status": "draining"}, status_code=503)
        if not context.backend.ready():
            return Response({"status": "unavailable"}, status_code=503)
        return Response({"status": "ok"}, status_code=200)

    @get("/version", sync_to_thread=False)
    def version() -> dict[str, str]:
        return {"name": "cortex", "version": cortex.__version__}

    return [health, version]


def _style(request: Request[Any, Any, Any]) -> models.ListStyle:
    return models.ListStyle(
        anthropic="anthropic-version" in request.headers, codex="client_version" in request.query_params
    )


def _json(body: bytes, request: Request[Any, Any, Any]) -> Response[bytes]:
    headers = {name.decode(): value.decode() for name, value in RequestIdentity.of(request.headers).headers()}
    return Response(body, media_type="application/json", headers=headers)
