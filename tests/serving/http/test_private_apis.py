"""Parts of uvicorn, httptools and litestar that cortex uses although they aren't documented.

Each test says in its failure message what breaks and where the part is used, for whoever raises the upper bounds in
pyproject.toml.
"""

from __future__ import annotations

import asyncio
import re
import socket
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httptools
import litestar
import pytest
import uvicorn
from litestar.datastructures import Headers
from litestar.exceptions import MethodNotAllowedException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, Operation
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from cortex.serving.http.protocol import Connection
from cortex.serving.http.server import Server, server_config

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"
PROTOCOL = "serving/http/protocol.py"
SERVER = "serving/http/server.py"


async def answer_ok(scope: Scope, receive: Receive, send: Send) -> None:
    """The smallest ASGI application: an empty 200 for HTTP, and the lifespan's two answers."""
    if scope["type"] == "lifespan":
        for kind in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{kind}.complete"})  # type: ignore[misc,arg-type]
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


@pytest.mark.parametrize("library", ["uvicorn", "litestar"])
def test_their_versions_have_an_upper_bound_that_is_installed(library: str) -> None:
    dependencies = tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]
    [found] = [line for line in dependencies if re.match(rf"{library}\b", line)]
    bounds = re.fullmatch(rf"{library}>=(\d+)\.(\d+),<(\d+)\.(\d+)", found)
    assert bounds, f"{found}: {library} needs an upper bound, since the parts tested here change without notice"
    low, high = (int(bounds[1]), int(bounds[2])), (int(bounds[3]), int(bounds[4]))
    major, minor = map(int, version(library).split(".")[:2])
    assert low <= (major, minor) < high, f"{library} {version(library)} is installed, which {found} excludes"


# uvicorn's connection


async def connection() -> HttpToolsProtocol:
    """A connection that has just been accepted, with a transport that takes everything."""
    config = uvicorn.Config(answer_ok, log_config=None)
    made = HttpToolsProtocol(config, ServerState(), {}, asyncio.get_running_loop())
    transport = Mock(spec=asyncio.Transport)
    transport.get_extra_info.return_value = None
    made.connection_made(transport)
    return made


async def test_the_connection_has_the_attributes_that_its_subclass_uses() -> None:
    made = await connection()
    made.on_message_begin()
    for name, use in {
        "parser": "is replaced to parse a request without its Upgrade offer",
        "headers": "is read to repeat a request without its Upgrade offer",
        "url": "is read to repeat a request without its Upgrade offer",
        "scope": "is what the application gets",
        "flow": "tells whether the client takes data",
        "transport": "is aborted when the client takes no data",
    }.items():
        assert hasattr(made, name), f"HttpToolsProtocol.{name} is gone; it {use} ({PROTOCOL})"
    assert made.flow.write_paused is False, f"FlowControl.write_paused isn't a plain flag any more ({PROTOCOL})"


@pytest.mark.parametrize("name", ["_unset_keepalive_if_required", "send_400_response"])
def test_the_connection_has_the_methods_that_its_subclass_calls(name: str) -> None:
    assert callable(getattr(HttpToolsProtocol, name, None)), f"HttpToolsProtocol.{name} is gone: {PROTOCOL} calls it"


@pytest.mark.parametrize("name", ["data_received", "on_message_begin", "on_headers_complete", "on_message_complete"])
def test_the_subclass_of_the_connection_overrides_methods_that_exist(name: str) -> None:
    assert callable(getattr(HttpToolsProtocol, name, None)), (
        f"HttpToolsProtocol.{name} is gone: the override in {PROTOCOL} isn't called, and Java clients lose their bodies"
    )


async def test_the_parser_calls_back_into_the_connection() -> None:
    """uvicorn passes the protocol itself to httptools, so that overridden callbacks are the ones that are called."""
    calls: list[str] = []

    class Spy(HttpToolsProtocol):
        def on_headers_complete(self) -> None:
            calls.append("on_headers_complete")

        def on_message_complete(self) -> None:
            calls.append("on_message_complete")

    spy = Spy(uvicorn.Config(answer_ok, log_config=None), ServerState(), {}, asyncio.get_running_loop())
    transport = Mock(spec=asyncio.Transport)
    transport.get_extra_info.return_value = None
    spy.connection_made(transport)
    spy.data_received(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
    assert calls == ["on_headers_complete", "on_message_complete"], f"overrides aren't called any more ({PROTOCOL})"


def test_the_parser_stops_at_an_offer_and_says_where() -> None:
    head = b"POST / HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 4\r\n\r\n"
    parser = httptools.HttpRequestParser(Mock())
    with pytest.raises(httptools.HttpParserUpgrade) as offer:
        parser.feed_data(head + b"body")
    assert parser.should_upgrade(), f"httptools doesn't tell of the offer while it parses ({PROTOCOL})"
    assert head[offer.value.args[0] :] == b"", f"HttpParserUpgrade has no offset of the rest any more ({PROTOCOL})"


def test_the_server_uses_the_connection_it_is_given() -> None:
    config = server_config(answer_ok)
    config.load()
    assert config.http_protocol_class is Connection, "uvicorn.Config(http=…) takes no class any more: see server_config"


# uvicorn's server


class SpyServer(Server):
    """Notes which of the overridden methods uvicorn calls."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.called: list[str] = []

    def capture_signals(self) -> Any:
        self.called.append("capture_signals")
        return super().capture_signals()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.called.append("startup")
        await super().startup(sockets)

    async def main_loop(self) -> None:
        self.called.append("main_loop")
        await super().main_loop()


async def test_the_server_calls_the_methods_that_its_subclass_overrides() -> None:
    server = SpyServer(server_config(answer_ok))
    serving = asyncio.create_task(server.serve([socket.create_server(("127.0.0.1", 0))]))
    async with asyncio.timeout(30):
        await server.serving.wait()
        server.stop()
        await serving
    for name, use in {
        "capture_signals": "uvicorn would handle SIGTERM itself and end without a drain",
        "startup": "nothing would tell systemd and `cortex up` that the server is ready",
        "main_loop": "uvicorn's own loop would wake ten times a second",
    }.items():
        assert name in server.called, f"uvicorn.Server.serve doesn't call {name} any more: {use} ({SERVER})"


async def test_a_tick_of_zero_renews_the_default_headers() -> None:
    config = server_config(answer_ok)
    config.load()
    server = Server(config)
    assert await server.on_tick(0) is False, f"on_tick(0) asks a fresh server to end ({SERVER})"
    names = [name for name, _ in server.server_state.default_headers]
    assert names == [b"date"], f"on_tick(0) doesn't renew the Date header any more ({SERVER})"
    server.stop()
    assert await server.on_tick(1) is True, f"should_exit doesn't end uvicorn's server any more ({SERVER})"


# litestar


async def call(app: ASGIApp, method: str, path: str) -> tuple[int, bytes]:
    """Status and body of one request."""
    sent: list[Message] = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "scheme": "http",
        "client": None,
        "server": None,
        "state": {},
    }

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)  # type: ignore[arg-type]
    body = b"".join(message.get("body", b"") for message in sent)
    return int(sent[0]["status"]), body  # type: ignore[typeddict-item]


def ping() -> litestar.handlers.HTTPRouteHandler:
    @litestar.get("/ping", sync_to_thread=False, opt={"public": True}, operation_class=Marked)
    def handler() -> str:
        return "pong"

    return handler


class Marked(Operation):
    def to_schema(self) -> dict[str, Any]:
        return super().to_schema() | {"x-marked": True}


class More(Components):
    def to_schema(self) -> dict[str, Any]:
        return super().to_schema() | {"x-more": True}


async def test_the_document_is_rendered_by_the_overridden_methods() -> None:
    config = OpenAPIConfig("t", "1", components=More(), render_plugins=[JsonRenderPlugin(path="/openapi.json")])
    _, document = await call(litestar.Litestar([ping()], openapi_config=config), "GET", "/schema/openapi.json")
    where = "bodies are missing in the OpenAPI document (serving/http/openapi.py)"
    assert b"x-marked" in document, f"litestar doesn't render operations by operation_class.to_schema any more: {where}"
    assert b"x-more" in document, f"litestar doesn't render components by their own to_schema any more: {where}"


async def test_a_middleware_sees_the_handler_with_its_options() -> None:
    seen: list[Any] = []

    def middleware(app: ASGIApp) -> ASGIApp:
        async def inner(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope["route_handler"].opt.get("public"))
            await app(scope, receive, send)

        return inner

    await call(litestar.Litestar([ping()], middleware=[middleware], openapi_config=None), "GET", "/ping")
    assert seen == [True], "the key check doesn't find the handler's `public` option (_KeyCheck in serving/http/app.py)"


async def test_a_wrong_method_is_told_with_a_lower_case_allow_header() -> None:
    caught: list[Exception] = []

    def handler(_: litestar.Request[Any, Any, Any], exception: Exception) -> litestar.Response[str]:
        caught.append(exception)
        return litestar.Response("", status_code=405)

    app = litestar.Litestar([ping()], exception_handlers={Exception: handler}, openapi_config=None)
    await call(app, "DELETE", "/ping")
    [exception] = caught
    assert isinstance(exception, MethodNotAllowedException), (
        f"a wrong method raises {exception!r} (serving/http/errors.py)"
    )
    allowed = (exception.headers or {}).get("allow", "")
    assert allowed.split(", ") == ["GET", "OPTIONS"], f"405 answers lose their Allow header: {exception.headers}"


def test_a_route_tells_its_paths_and_options() -> None:
    handler = ping()
    where = "fast_routes finds no routes, so every request takes the slow way (serving/http/fast_routes.py)"
    assert set(handler.paths) == {"/ping"}, where
    assert handler.opt == {"public": True}, where


def test_headers_are_read_from_a_bare_scope() -> None:
    scope: Any = {"headers": [(b"x-api-key", b"secret")]}
    assert Headers.from_scope(scope).get("X-Api-Key") == "secret", "fast routes can't read the key any more"
