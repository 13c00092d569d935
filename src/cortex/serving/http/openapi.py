"""Request and response schemas for the OpenAPI document.

Bodies are decoded by the dialects, so litestar can't derive their types from the handlers' signatures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from litestar.openapi.spec import Components, Operation
from msgspec import Raw, Struct
from msgspec.structs import FieldInfo, fields

__all__ = ["RequestSchemas"]

_REF = "#/components/schemas/{name}"


class _WithSchemas(Components):
    """Litestar's components, and finished JSON schemas that are added to them unchanged."""

    def __init__(self, schemas: dict[str, dict[str, Any]]) -> None:
        super().__init__()
        self._finished = schemas

    def to_schema(self) -> dict[str, Any]:
        document = super().to_schema()
        document["schemas"] = document.get("schemas", {}) | self._finished
        return document


class RequestSchemas:
    """The schemas of all request bodies, made in one call so that msgspec gives types of equal name different names."""

    def __init__(self, bodies: list[type[Struct]]) -> None:
        documented = [_documented(body) for body in bodies]
        schemas, self._components = msgspec.json.schema_components(documented, ref_template=_REF)
        self._schemas = dict(zip(bodies, schemas, strict=True))

    @property
    def components(self) -> Components:
        return _WithSchemas(self._components)

    def operation(self, body: type[Struct]) -> type[Operation]:
        """The operation class of a handler that takes `body` and answers with JSON, SSE or an error."""
        schema = self._schemas[body]

        @dataclass
        class BodyOperation(Operation):
            def to_schema(self) -> dict[str, Any]:
                document = super().to_schema()
                document["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
                document["responses"] = _RESPONSES
                return document

        return BodyOperation


def _documented(body: type[Struct]) -> type[Struct]:
    """`body` without the fields whose default is undecoded JSON, which msgspec can't write as JSON Schema."""
    raw = [field for field in fields(body) if isinstance(field.default, Raw)]
    if not raw:
        return body
    kept = [field for field in fields(body) if field not in raw]
    rewritten = [(each.name, each.type) if each.required else (each.name, each.type, _default(each)) for each in kept]
    return msgspec.defstruct(body.__name__, rewritten, kw_only=True)


def _default(info: FieldInfo) -> Any:
    return info.default_factory() if info.default is msgspec.NODEFAULT else info.default


_JSON: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
_RESPONSES: dict[str, Any] = {
    "200": {"description": "The answer.", "content": _JSON | {"text/event-stream": {"schema": {"type": "string"}}}},
    "400": {"description": "The request is invalid; the message says why.", "content": _JSON},
    "401": {"description": "The API key is missing or unknown.", "content": _JSON},
    "404": {"description": "No such model.", "content": _JSON},
    "413": {"description": "The body is too large.", "content": _JSON},
    "429": {"description": "Too many requests; see Retry-After.", "content": _JSON},
    "500": {"description": "Internal error.", "content": _JSON},
    "503": {"description": "The model can't be served now; see Retry-After.", "content": _JSON},
    "504": {"description": "Timeout.", "content": _JSON},
}
