"""The HTTP application of either role: client routes, the role's own routes, and what applies to all of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Literal

from litestar import Litestar
from litestar.datastructures import Headers
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.types import ASGIApp, ControllerRouterHandler, Receive, Scope, Send

import cortex
from cortex.config.settings import Config, parse_bytes
from cortex.dialects.openai.responses import body as responses_body
from cortex.serving.access.keyring import Keyring
from cortex.serving.exchange.backend import Backend
from cortex.serving.exchange.exchange import ExchangeContext
from cortex.serving.exchange.lifecycle import Lifecycle
from cortex.serving.http.endpoints import endpoints
from cortex.serving.http.errors import handle_exception
from cortex.serving.http.fast_routes import Application, direct_routes
from cortex.serving.http.openapi import BodyDocuments
from cortex.serving.http.response_routes import closing_store, make_store
from cortex.serving.http.routes import client_routes
from cortex.serving.telemetry.records import Observer

__all__ = ["build_app"]


def build_app(
    backend: Backend,
    config: Config,
    lifecycle: Lifecycle,
    *,
    role: Literal["gateway", "neuron"],
    routes: Sequence[ControllerRouterHandler] = (),
    lifespan: Sequence[AbstractAsyncContextManager[None]] = (),
    observers: Sequence[Observer] = (),
    keyring: Keyring | None = None,
) -> Litestar:
    """The application over `backend`; raises ConfigError for unreadable keys.

    `routes` are the role's own; keys guard them too, but for handlers with `opt={"public": True}`. `observers` hear of
    every request once, at its end. Pass a `keyring` to be able to reload it.
    """
    context = ExchangeContext(backend, config, lifecycle, observers)
    keys = keyring or Keyring(config.auth)
    store = make_store(config.responses)

    table = endpoints(config.anthropic)
    documents = BodyDocuments([responses_body.Body, *dict.fromkeys(endpoint.body for endpoint in table)])
    client = client_routes(context, store, table, documents)
    return Application(
        direct_routes(client, keys),
        route_handlers=[*client, *routes],
        lifespan=[*lifespan, partial(closing_store, store)],
        middleware=[partial(_KeyCheck, keys)],
        exception_handlers={Exception: handle_exception},
        request_max_body_size=parse_bytes(config.limits.body_bytes),
        openapi_config=OpenAPIConfig(
            title=f"cortex {role}",
            version=cortex.__version__,
            components=documents.components,
            # The default is an HTML page whose scripts come from a CDN: nothing here reaches out of the house.
            render_plugins=[JsonRenderPlugin(path=["/openapi.json", "/"])],
        ),
        logging_config=None,
    )


class _KeyCheck:
    """Middleware rather than a litestar guard: a guard costs a copy of the handler for every request."""

    def __init__(self, keys: Keyring, app: ASGIApp) -> None:
        self._keys = keys
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["route_handler"].opt.get("public"):
            scope["auth"] = self._keys.principal_of(Headers.from_scope(scope))
        await self._app(scope, receive, send)
