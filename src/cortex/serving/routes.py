"""The client routes both roles mount."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.types import ASGIApp

import cortex
from cortex.config import AnthropicConfig
from cortex.dialects import anthropic_messages, models, openai_chat
from cortex.dialects.anthropic_reply import anthropic_error
from cortex.dialects.base import Call, CallContext, ErrorEncoder
from cortex.dialects.envelope import openai_error
from cortex.errors import ModelNotFound
from cortex.serving.exchange import Exchange, Service
from cortex.serving.identity import RequestIdentity

__all__ = ["client_routes"]

Parse = Callable[[bytes, CallContext], Call]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A route that runs requests: `name` is the dialect's word in records and metrics."""

    paths: tuple[str, ...]
    name: str
    parse: Parse
    encode_error: ErrorEncoder


def endpoints(config: AnthropicConfig) -> list[Endpoint]:
    billing = config.normalise_billing_header
    parse_messages = partial(anthropic_messages.parse_messages, normalise_billing=billing)
    parse_count = partial(anthropic_messages.parse_count_tokens, normalise_billing=billing)
    return [
        Endpoint(("/v1/chat/completions", "/api/v0/chat/completions"), "openai_chat", openai_chat.parse, openai_error),
        Endpoint(("/v1/messages",), "anthropic_messages", parse_messages, anthropic_error),
        Endpoint(("/v1/messages/count_tokens",), "anthropic_count_tokens", parse_count, anthropic_error),
    ]


def client_routes(service: Service) -> list[HTTPRouteHandler]:
    """Every route that a client of either role may call."""
    inference = [_inference_route(endpoint, service) for endpoint in endpoints(service.config.anthropic)]
    return [*inference, *_model_routes(service), *_status_routes(service)]


def _inference_route(endpoint: Endpoint, service: Service) -> HTTPRouteHandler:
    @post(list(endpoint.paths), name=endpoint.name, status_code=200)
    async def infer(request: Request[Any, Any, Any]) -> ASGIApp:
        service.lifecycle.refuse_when_draining()
        identity = RequestIdentity.of(request.headers)
        context = CallContext(
            request_id=identity.id,
            created=int(time.time()),
            resolve=service.backend.resolve,
            principal=request.auth,
            headers=request.headers,
        )
        call = endpoint.parse(await request.body(), context)
        return Exchange(service, call, identity, endpoint.name, endpoint.encode_error)

    return infer


def _model_routes(service: Service) -> list[HTTPRouteHandler]:
    @get(["/v1/models", "/api/v0/models"], sync_to_thread=False)
    def list_models(request: Request[Any, Any, Any]) -> Response[bytes]:
        return _json(models.listing(service.backend.models(), _style(request)))

    @get(["/v1/models/{model_id:path}", "/api/v0/models/{model_id:path}"], sync_to_thread=False)
    def get_model(request: Request[Any, Any, Any], model_id: FromPath[str]) -> Response[bytes]:
        wanted = service.backend.resolve(model_id.strip("/"))
        for status, neurons in service.backend.models():
            if status.card.id == wanted:
                return _json(models.entry(status, neurons, _style(request)))
        raise ModelNotFound(f"there is no model {wanted!r}", param="model")

    return [list_models, get_model]


def _status_routes(service: Service) -> list[HTTPRouteHandler]:
    @get("/health", sync_to_thread=False, opt={"public": True})
    def health() -> Response[dict[str, str]]:
        """200 while new requests are taken, 503 while draining."""
        ready = service.backend.ready() and not service.lifecycle.draining
        return Response({"status": "ok" if ready else "draining"}, status_code=200 if ready else 503)

    @get("/version", sync_to_thread=False)
    def version() -> dict[str, str]:
        return {"name": "cortex", "version": cortex.__version__}

    return [health, version]


def _style(request: Request[Any, Any, Any]) -> models.ListStyle:
    return models.ListStyle(
        anthropic="anthropic-version" in request.headers, codex="client_version" in request.query_params
    )


def _json(body: bytes) -> Response[bytes]:
    return Response(body, media_type="application/json")
