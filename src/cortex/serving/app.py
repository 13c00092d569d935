"""The HTTP application of either role: client routes, the role's own routes, and what applies to all of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Literal

from litestar import Litestar
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.types import ControllerRouterHandler

import cortex
from cortex.config import Config, parse_bytes
from cortex.dialects import responses_body
from cortex.serving.auth import Keyring
from cortex.serving.backend import Backend
from cortex.serving.endpoints import endpoints
from cortex.serving.errors import handle_exception
from cortex.serving.exchange import Service
from cortex.serving.lifecycle import Lifecycle
from cortex.serving.openapi import BodyDocuments
from cortex.serving.records import Observer
from cortex.serving.responses import closing_store, make_store
from cortex.serving.routes import client_routes

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
    service = Service(backend, config, lifecycle, observers)
    keys = keyring or Keyring(config.auth)
    store = make_store(config.responses)

    # async, since litestar runs a plain function in a thread: a hop that costs more than the whole look-up
    async def authorise(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        if not handler.opt.get("public"):
            connection.scope["auth"] = keys.principal_of(connection.headers)

    table = endpoints(config.anthropic)
    documents = BodyDocuments([responses_body.Body, *dict.fromkeys(endpoint.body for endpoint in table)])
    return Litestar(
        route_handlers=[*client_routes(service, store, table, documents), *routes],
        lifespan=[*lifespan, partial(closing_store, store)],
        guards=[authorise],
        exception_handlers={Exception: handle_exception},
        request_max_body_size=parse_bytes(config.limits.body_bytes),
        openapi_config=OpenAPIConfig(
            title=f"cortex {role}",
            version=cortex.__version__,
            components=documents.components,
        ),
        logging_config=None,
    )
