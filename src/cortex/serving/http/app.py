"""The HTTP application of gateway and neuron: client routes, the role's own routes, and the middleware of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from cortex.dialects.openai.responses.body import ResponsesBody
from cortex.serving.access.keyring import Keyring
from cortex.serving.exchange.backend import Backend
from cortex.serving.exchange.exchange import ExchangeContext
from cortex.serving.exchange.lifecycle import Lifecycle
from cortex.serving.http.endpoints import endpoints
from cortex.serving.http.errors import handle_exception
from cortex.serving.http.fast_routes import FastRoutesApp, fast_routes
from cortex.serving.http.openapi import RequestSchemas
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
    read_config: Callable[[], Config] | None = None,
) -> Litestar:
    """The application that serves `backend`. Raises ConfigError when the keys or the response store can't be read.

    `routes` are the role's own. They need a key like all others, except for handlers with `opt={"public": True}`.
    Each of `observers` is called once per request, at its end. Pass a `keyring` to be able to reload it, and
    `read_config`, which gives the config in force, to be able to replace that; `config` is the one at the start.
    """
    context = ExchangeContext(backend, read_config or (lambda: config), lifecycle, observers)
    keys = keyring or Keyring(config.auth)
    store = make_store(config.responses)

    table = endpoints(lambda: context.config.anthropic)
    schemas = RequestSchemas([ResponsesBody, *dict.fromkeys(endpoint.body for endpoint in table)])
    client = client_routes(context, store, table, schemas)
    return FastRoutesApp(
        fast_routes(client, keys, observers),
        route_handlers=[*client, *routes],
        lifespan=[*lifespan, partial(closing_store, store)],
        middleware=[partial(_KeyCheck, keys)],
        exception_handlers={Exception: handle_exception},
        request_max_body_size=parse_bytes(config.limits.body_bytes),  # of other routes; RequestReader has its own
        openapi_config=OpenAPIConfig(
            title=f"cortex {role}",
            version=cortex.__version__,
            components=schemas.components,
            # Litestar's default is an HTML page that loads its scripts from a CDN; cortex must work without internet.
            render_plugins=[JsonRenderPlugin(path=["/openapi.json", "/"])],
        ),
        logging_config=None,
    )


class _KeyCheck:
    """Sets `scope["auth"]` to the principal of the key, or raises Unauthorized.

    A middleware, since a litestar guard costs a copy of the handler for every request.
    """

    def __init__(self, keys: Keyring, app: ASGIApp) -> None:
        self._keys = keys
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["route_handler"].opt.get("public"):
            scope["auth"] = self._keys.principal_of(Headers.from_scope(scope))
        await self._app(scope, receive, send)
