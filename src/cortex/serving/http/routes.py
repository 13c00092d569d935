"""The routes for clients, which gateway and neuron both have: inference, models, health and version."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.types import ASGIApp, Receive, Scope

import cortex
from cortex.dialects.openai.models import ListStyle, model_list, model_object
from cortex.errors import ModelNotFound
from cortex.serving.exchange.exchange import Exchange, ExchangeContext
from cortex.serving.http.endpoints import Endpoint
from cortex.serving.http.fast_routes import FAST_ROUTE
from cortex.serving.http.openapi import RequestSchemas
from cortex.serving.http.request_id import RequestId
from cortex.serving.http.request_reader import RequestReader
from cortex.serving.http.response_routes import response_routes
from cortex.serving.response_store.memory import ResponseStore

__all__ = ["client_routes"]


def client_routes(
    context: ExchangeContext, store: ResponseStore, table: list[Endpoint], schemas: RequestSchemas
) -> list[HTTPRouteHandler]:
    """All routes that a client of either role may call."""
    reader = RequestReader(context)
    return [
        *(_inference_route(endpoint, context, reader, schemas) for endpoint in table),
        *response_routes(context, reader, store, schemas),
        *_model_routes(context),
        *_status_routes(context),
    ]


def _inference_route(
    endpoint: Endpoint, context: ExchangeContext, reader: RequestReader, schemas: RequestSchemas
) -> HTTPRouteHandler:
    async def prepare(scope: Scope, receive: Receive) -> ASGIApp:
        received = await reader.read(scope, receive)
        call = await reader.parse(received, endpoint.parse)
        return Exchange(context, call, received.identity, dialect=endpoint.name, encode_error=endpoint.encode_error)

    @post(
        list(endpoint.paths),
        name=endpoint.name,
        summary=endpoint.name.replace("_", " "),
        status_code=200,
        operation_class=schemas.operation(endpoint.body),
        opt={FAST_ROUTE: prepare},
    )
    async def infer(request: Request[Any, Any, Any]) -> ASGIApp:
        return await prepare(request.scope, request.receive)

    return infer


def _model_routes(context: ExchangeContext) -> list[HTTPRouteHandler]:
    @get(["/v1/models", "/api/v0/models"], sync_to_thread=False)
    def list_models(request: Request[Any, Any, Any]) -> Response[bytes]:
        """All models, loaded or not. Headers and query choose the form: OpenAI's, Anthropic's, Codex's."""
        return _json(model_list(context.backend.models(), _style(request)), request)

    @get(["/v1/models/{model_id:path}", "/api/v0/models/{model_id:path}"], sync_to_thread=False)
    def get_model(request: Request[Any, Any, Any], model_id: FromPath[str]) -> Response[bytes]:
        """One model."""
        wanted = context.backend.resolve(model_id.strip("/"))
        for status, neurons in context.backend.models():
            if status.card.id == wanted:
                return _json(model_object(status, neurons, _style(request)), request)
        raise ModelNotFound(f"there is no model {wanted!r}", param="model")

    return [list_models, get_model]


def _status_routes(context: ExchangeContext) -> list[HTTPRouteHandler]:
    @get("/health", sync_to_thread=False, opt={"public": True})
    def health() -> Response[dict[str, str]]:
        """200 while new requests are accepted; 503 while draining, and when no backend could serve them."""
        if context.lifecycle.draining:
            return Response({"status": "draining"}, status_code=503)
        if not context.backend.ready():
            return Response({"status": "unavailable"}, status_code=503)
        return Response({"status": "ok"}, status_code=200)

    @get("/version", sync_to_thread=False)
    def version() -> dict[str, str]:
        """Name and version of the program."""
        return {"name": "cortex", "version": cortex.__version__}

    return [health, version]


def _style(request: Request[Any, Any, Any]) -> ListStyle:
    return ListStyle(anthropic="anthropic-version" in request.headers, codex="client_version" in request.query_params)


def _json(body: bytes, request: Request[Any, Any, Any]) -> Response[bytes]:
    headers = {name.decode(): value.decode() for name, value in RequestId.of(request.headers).headers()}
    return Response(body, media_type="application/json", headers=headers)
