"""Inference requests on the short way: from the server straight to their handler, past litestar's layers.

Two exception middlewares, a signature model and an exit stack for each request cost a sixth of the CPU that the
gateway spends on a short one. Litestar's routes for the same paths stay: they document them, refuse other methods and
take other spellings of a path.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from litestar import Litestar
from litestar.datastructures import Headers
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp, LifeSpanReceive, LifeSpanScope, LifeSpanSend, Receive, Scope, Send

from cortex.serving.access.keyring import Keyring
from cortex.serving.http.errors import send_error

__all__ = ["Application", "Begin", "direct_routes"]

Begin = Callable[[Scope, Receive], Awaitable[ASGIApp]]
"""Reads and parses one request whose principal is `scope["auth"]`; what it returns answers it."""


class Application(Litestar):
    """Litestar, but for POSTs to the `direct` paths. HEAD is answered as GET; the server leaves the body out."""

    def __init__(self, direct: dict[str, ASGIApp], **options: Any) -> None:
        super().__init__(**options)
        self._direct = direct

    async def __call__(
        self, scope: Scope | LifeSpanScope, receive: Receive | LifeSpanReceive, send: Send | LifeSpanSend
    ) -> None:
        route = None
        if scope["type"] != "lifespan" and scope.get("method") == "POST":
            route = self._direct.get(scope["path"])
        elif scope.get("method") == "HEAD":
            scope = cast("Scope", {**scope, "method": "GET"})
        await (route or super().__call__)(scope, receive, send)  # type: ignore[arg-type]


class _DirectRoute:
    def __init__(self, keys: Keyring, begin: Begin) -> None:
        self._keys = keys
        self._begin = begin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            scope["auth"] = self._keys.principal_of(Headers.from_scope(scope))
            answer = await self._begin(scope, receive)
            await answer(scope, receive, send)
        except Exception as exception:  # noqa: BLE001 - the border: whatever it is, the client gets its envelope
            await send_error(scope, send, exception)


def direct_routes(handlers: Sequence[HTTPRouteHandler], keys: Keyring) -> dict[str, ASGIApp]:
    """By path: the handlers that have a Begin as their option `direct`."""
    return {
        path: _DirectRoute(keys, handler.opt["direct"])
        for handler in handlers
        if "direct" in handler.opt
        for path in handler.paths
    }
