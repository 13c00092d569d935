"""The OpenAPI document's words for what the handlers take and give.

Bodies are read by the dialects' own decoders, so Litestar can't see their types: they are told here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
from litestar.openapi.spec import Components, Operation
from msgspec import Raw, Struct
from msgspec.structs import FieldInfo, fields

__all__ = ["BodyDocuments"]

_REF = "#/components/schemas/{name}"


@dataclass
class _BodyComponents(Components):
    """Litestar's own components and, beside them, schemas that are already written."""

    written: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def _exclude_fields(self) -> set[str]:
        return {"written"}

    def to_schema(self) -> dict[str, Any]:
        document = super().to_schema()
        document["schemas"] = document.get("schemas", {}) | self.written
        return document


class BodyDocuments:
    """The schemas of all request bodies, made together so that equal names are told apart everywhere."""

    def __init__(self, bodies: list[type[Struct]]) -> None:
        documented = [_documented(body) for body in bodies]
        schemas, self._components = msgspec.json.schema_components(documented, ref_template=_REF)
        self._schemas = dict(zip(bodies, schemas, strict=True))

    @property
    def components(self) -> Components:
        return _BodyComponents(written=self._components)

    def operation(self, body: type[Struct]) -> type[Operation]:
        """An operation class whose request body is `body`, and whose answers are JSON, SSE or an error."""
        schema = self._schemas[body]

        @dataclass
        class BodyOperation(Operation):
            def to_schema(self) -> dict[str, Any]:
                written = super().to_schema()
                written["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
                written["responses"] = _RESPONSES
                return written

        return BodyOperation


def _documented(body: type[Struct]) -> type[Struct]:
    """`body` without what JSON Schema can't say: a default that is undecoded JSON."""
    raw = [field for field in fields(body) if isinstance(field.default, Raw)]
    if not raw:
        return body
    said = [(field.name, field.type, field) for field in fields(body) if field not in raw]
    rewritten = [(name, kind, _default(given)) if not given.required else (name, kind) for name, kind, given in said]
    return msgspec.defstruct(body.__name__, rewritten, kw_only=True)


def _default(given: FieldInfo) -> Any:
    return given.default_factory() if given.default is msgspec.NODEFAULT else given.default


_JSON: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
_RESPONSES: dict[str, Any] = {
    "200": {"description": "The answer.", "content": _JSON | {"text/event-stream": {"schema": {"type": "string"}}}},
    "400": {"description": "The request is wrong; the message says how.", "content": _JSON},
    "401": {"description": "An API key is needed, or the one given isn't known.", "content": _JSON},
    "404": {"description": "There is no such model.", "content": _JSON},
    "413": {"description": "The body is too large.", "content": _JSON},
    "429": {"description": "Too many requests; see Retry-After.", "content": _JSON},
    "500": {"description": "Something failed in here.", "content": _JSON},
    "503": {"description": "No model or no room right now; see Retry-After.", "content": _JSON},
    "504": {"description": "It took too long.", "content": _JSON},
}
