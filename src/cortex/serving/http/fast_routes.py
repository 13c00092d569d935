"""Inference requests without litestar's layers: POSTs to the exact paths go from the server to their handler.

Litestar's two exception middlewares, its signature model and its exit stack take a sixth of the gateway's CPU time for
a short request (docs/explanation/performance-diary.md). The routes stay registered in litestar too: for the OpenAPI
document, for 405 on other methods, and for other spellings of a path (a trailing slash).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from litestar import Litestar
from litestar.datastructures import Headers
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp, LifeSpanReceive, LifeSpanScope, LifeSpanSend, Receive, Scope, Send
from msgspec import structs

from cortex.errors import CortexError
from cortex.serving.access.keyring import Keyring
from cortex.serving.http.errors import as_cortex_error, send_error
from cortex.serving.http.request_id import RequestId
from cortex.serving.telemetry.records import Observer, RequestMeter
from cortex.wire.events import failed

__all__ = ["FAST_ROUTE", "FastRoutesApp", "fast_routes"]

FAST_ROUTE = "fast_route"
"""The option (`opt`) of a litestar handler that holds its PrepareAnswer."""

PrepareAnswer = Callable[[Scope, Receive], Awaitable[ASGIApp]]
"""Reads and parses one request, whose principal is `scope["auth"]`. The application it returns sends the answer."""


class FastRoutesApp(Litestar):
    """A litestar application whose POSTs to the paths in `routes` bypass litestar's layers.

    HEAD is handled as GET; uvicorn leaves the body out.
    """

    def __init__(self, routes: dict[str, ASGIApp], **options: Any) -> None:
        super().__init__(**options)
        self._fast_routes = routes

    async def __call__(
        self, scope: Scope | LifeSpanScope, receive: Receive | LifeSpanReceive, send: Send | LifeSpanSend
    ) -> None:
        route = None
        if scope["type"] != "lifespan" and scope.get("method") == "POST":
            route = self._fast_routes.get(scope["path"])
        elif scope.get("method") == "HEAD":
            scope = cast("Scope", {**scope, "method": "GET"})
        await (route or super().__call__)(scope, receive, send)  # type: ignore[arg-type]


class _FastRoute:
    """`dialect` is the endpoint's name in records. A request that is refused before its exchange begins has a record
    too: it names no model, since none was found."""

    def __init__(self, keys: Keyring, prepare: PrepareAnswer, dialect: str, observers: Sequence[Observer]) -> None:
        self._keys = keys
        self._prepare = prepare
        self._dialect = dialect
        self._observers = observers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        arrived = time.monotonic()
        scope["auth"] = None
        try:
            scope["auth"] = self._keys.principal_of(Headers.from_scope(scope))
            answer = await self._prepare(scope, receive)
            await answer(scope, receive, send)
        except Exception as exception:  # noqa: BLE001 - whatever it is, the client gets an error response
            error, identity = as_cortex_error(exception, scope["path"]), RequestId.of(Headers.from_scope(scope))
            self._notify_observers(identity, scope["auth"], error, arrived)
            await send_error(scope, send, error, identity)

    def _notify_observers(self, identity: RequestId, principal: str | None, error: CortexError, arrived: float) -> None:
        meter = RequestMeter(identity.id, self._dialect, "", principal, time.monotonic)
        meter.feed([failed(error)])
        record = structs.replace(meter.finish(error.status), duration_s=time.monotonic() - arrived)
        for observer in self._observers:
            observer(record)


def fast_routes(
    handlers: Sequence[HTTPRouteHandler], keys: Keyring, observers: Sequence[Observer] = ()
) -> dict[str, ASGIApp]:
    """An application by path, for the handlers that have the option FAST_ROUTE."""
    return {
        path: _FastRoute(keys, handler.opt[FAST_ROUTE], handler.name or "", observers)
        for handler in handlers
        if FAST_ROUTE in handler.opt
        for path in handler.paths
    }
