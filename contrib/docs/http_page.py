"""Makes docs/reference/http.md from the route tables and OpenAPI documents of both roles (`make docs`).

What a route does is the first paragraph of its handler's docstring; request bodies come from the OpenAPI document.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from cortex import errors
from cortex.config.profiles import Profiles
from cortex.config.settings import Config, NeuronConfig
from cortex.gateway.app import Gateway
from cortex.neuron.app import Neuron

__all__ = ["Route", "document", "routes"]

HEAD = """# HTTP

Made by `make docs` from the code; don't edit. Both roles serve their OpenAPI document at `/schema/openapi.json`.
[Fields of the APIs](api-fields.md) says what becomes of the fields of a request, [Documents](documents.md) what the
answers for operators and scripts hold.

With keys set, every route but `/health` needs one, as `Authorization: Bearer KEY` or `x-api-key: KEY`. The gateway
serves Prometheus metrics at `/metrics` on a port of its own (`gateway.metrics_listen`).
"""

GROUPS = {
    "Client APIs": "Served by both roles: a neuron alone answers clients as a gateway does.",
    "Gateway": "For operators. `cortex status`, `load`, `pin` and the like call these.",
    "Neuron": "For gateways, operators and scripts. Reading never loads a model or resets its idle time.",
}

INFERENCE = {
    "openai_chat": "OpenAI chat completions.",
    "openai_completions": "OpenAI completions (legacy): text continues a prompt.",
    "openai_embeddings": "OpenAI embeddings.",
    "openai_responses": "OpenAI responses.",
    "rerank": "Score documents by their relevance to a query, as Jina and Cohere do.",
    "anthropic_messages": "Anthropic messages.",
    "anthropic_count_tokens": "Count the tokens of an Anthropic messages request; nothing is generated.",
}
"""By the name of an inference route, which is the `dialect` of logs and metrics."""

SHARING = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")
"""Their bodies have most fields in common."""

ERRORS_HEAD = """## Errors

An error has the envelope of the API that was called: OpenAI's `{"error": {"message", "type", "param", "code"}}` or
Anthropic's `{"type": "error", "error": {"type", "message"}}`. `Retry-After` (seconds) comes with an error that is
expected to pass; with status 500 and above, `x-should-retry` says whether a retry can help, which the OpenAI and
Anthropic SDKs follow. When a stream has begun, the error is its last event instead.

| status | code | raised for | retry |
|---|---|---|---|"""

CAUSES = {
    "BadRequest": "a malformed or contradictory request",
    "ContextLengthExceeded": "a prompt longer than the model's context or `limit.input`",
    "UnsupportedValue": "a valid value that this server or model can't serve",
    "InvalidSchema": "a JSON schema that can't be enforced",
    "Unauthorized": "a missing or unknown API key",
    "Forbidden": "a repository on the hub that needs a licence or token",
    "NotFound": "an unknown path, response, neuron or request id",
    "ModelNotFound": "an unknown model",
    "Conflict": "an order that was decided on an outdated state (neuron only)",
    "PayloadTooLarge": "a body over `limits.body_bytes`",
    "RateLimited": "a full queue, for a request with a key",
    "InternalError": "a bug, or a failure of llama.cpp",
    "WorkerDied": "a worker process that ended during the request",
    "Unavailable": "no neuron answers, or all attempts failed",
    "ModelLoading": "a non-streaming request whose model is still loading",
    "ModelLoadFailed": "a model that could not be loaded",
    "NoRoom": "a model that no device can hold",
    "Overloaded": "a full queue, or a request that waited too long in it",
    "Draining": "a role that is shutting down, or drained neurons",
    "DeadlineExceeded": "a request that took longer than allowed",
}
"""By the names of the error classes that cross HTTP."""


@dataclass(frozen=True, slots=True, order=True)
class Route:
    """One route of one role, its paths in the order of preference. `body` names the schema of its request body."""

    paths: tuple[str, ...]
    method: str
    public: bool
    text: str
    body: str


def document() -> str:
    """The whole page."""
    gateway, neuron = _gateway(), _neuron()
    both = {route for route in routes(gateway) if route in set(routes(neuron))}
    own = {
        "Client APIs": sorted(both),
        "Gateway": [route for route in routes(gateway) if route not in both],
        "Neuron": [route for route in routes(neuron) if route not in both],
    }
    lines = [HEAD]
    for title, found in own.items():
        lines += [f"## {title}\n", f"{GROUPS[title]}\n", *_route_table(found), ""]
    lines += ["## Request bodies\n", *_bodies(gateway, sorted(both)), ERRORS_HEAD, *_error_rows()]
    return "\n".join(lines) + "\n"


def routes(app: Litestar) -> list[Route]:
    """The routes of an application without those of the OpenAPI document, sorted by path."""
    handlers = {
        (method, id(handler)): (method, handler)
        for route in app.routes
        if isinstance(route, HTTPRoute) and not route.path.startswith("/schema")
        for method, handler in _handlers(route)
    }
    return sorted(_route(app, method, handler) for method, handler in handlers.values())


def _handlers(route: HTTPRoute) -> Iterator[tuple[str, HTTPRouteHandler]]:
    for method, found in route.route_handler_map.items():
        handler = found[0] if isinstance(found, tuple) else found
        if method != "OPTIONS":
            yield str(method), handler


def _route(app: Litestar, method: str, handler: HTTPRouteHandler) -> Route:
    text = INFERENCE[handler.name] if handler.name else _first_paragraph(handler)
    standard = sorted(handler.paths, key=lambda path: (not path.startswith("/v1"), path.startswith("/api"), path))
    paths = tuple(_plain(path) for path in standard)
    return Route(paths, method, bool(handler.opt.get("public")), text, _body_name(app, paths[0], method))


def _first_paragraph(handler: HTTPRouteHandler) -> str:
    text = inspect.getdoc(handler.fn)
    assert text, f"{handler.paths}: the handler has no docstring"
    return text.split("\n\n")[0].replace("\n", " ")


def _plain(path: str) -> str:
    """`/v1/models/{id}` of litestar's `/v1/models/{id:path}`."""
    for kind in ("path", "str"):
        path = path.replace(f":{kind}}}", "}")
    return path


def _route_table(found: list[Route]) -> Iterator[str]:
    yield "| method | path | purpose |"
    yield "|---|---|---|"
    for route in found:
        paths = ", ".join(f"`{path}`" for path in route.paths)
        note = " Needs no key." if route.public else ""
        yield f"| {route.method} | {paths} | {route.text}{note} |"


# ---- request bodies


@cache
def _schema(app: Litestar) -> dict[str, Any]:
    return app.openapi_schema.to_schema()


def _body_name(app: Litestar, path: str, method: str) -> str:
    operation = _schema(app)["paths"].get(path, {}).get(method.lower(), {})
    content = operation.get("requestBody", {}).get("content", {})
    reference = content.get("application/json", {}).get("schema", {}).get("$ref", "")
    return str(reference).rpartition("/")[2]


def _bodies(app: Litestar, found: list[Route]) -> Iterator[str]:
    """A table of fields for each body, under the routes that take it; first the fields that several bodies share."""
    schemas = _schema(app)["components"]["schemas"]
    shared = set.intersection(*(set(schemas[route.body]["properties"]) for route in found if route.paths[0] in SHARING))
    yield f"### Common to {', '.join(f'`{path}`' for path in SHARING)}\n"
    body = next(route.body for route in found if route.paths[0] == SHARING[0])
    yield from _fields(schemas[body], shared)
    for name in dict.fromkeys(route.body for route in found if route.body):
        paths = [route.paths[0] for route in found if route.body == name]
        yield f"### {', '.join(f'`{path}`' for path in paths)}\n"
        own = set(schemas[name]["properties"])
        known = shared - set(schemas[name].get("required", [])) if paths[0] in SHARING else set()
        yield from _fields(schemas[name], own - known)


def _fields(schema: dict[str, Any], chosen: set[str]) -> Iterator[str]:
    yield "| field | type |"
    yield "|---|---|"
    for field, kind in schema["properties"].items():
        if field in chosen:
            note = ", required" if field in schema.get("required", []) else ""
            yield f"| `{field}` | {_type(kind)}{note} |"
    yield ""


def _type(schema: dict[str, Any]) -> str:
    """A JSON schema in words; objects and mixed lists aren't taken apart."""
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema:
        kinds = [_type(kind) for kind in schema["anyOf"] if kind.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if schema.get("type") == "array":
        items = _type(schema["items"]) if schema.get("items") else "any"
        return f"list ({items})"
    return "object" if "$ref" in schema else str(schema.get("type", "any"))


def _error_rows() -> Iterator[str]:
    classes = [getattr(errors, name) for name in errors.__all__]
    kinds = [kind for kind in classes if isinstance(kind, type) and kind.__name__ not in ("ConfigError", "CortexError")]
    for kind in sorted(kinds, key=lambda kind: (kind.status, kind.__mro__[::-1].__len__(), kind.code)):
        yield f"| {kind.status} | `{kind.code}` | {CAUSES[kind.__name__]} | {'yes' if kind.retryable else 'no'} |"


# ---- the two applications, unstarted


@cache
def _gateway() -> Litestar:
    return Gateway(Config(), Profiles()).app


@cache
def _neuron() -> Litestar:
    return Neuron(Config(neuron=NeuronConfig(cpu_devices=1, cpu_memory="1GiB")), Profiles()).app
