"""Makes docs/reference/documents.md: the JSON documents that both roles answer with (`make docs`).

The fields are those of the structs of `cortex.wire`; the text is the structs' docstrings.
"""

from __future__ import annotations

import inspect as python
import json
from collections.abc import Iterator

from msgspec import NODEFAULT, Struct, inspect

from cortex.wire.fleet import FleetStatus, PlacementPlan
from cortex.wire.status import Discovery, LoadJob, LoadOrder, NeuronStatus, UnloadOrder
from cortex.wire.worker import ProbeReport

__all__ = ["document"]

HEAD = """# Documents of status and orders

Made by `make docs` from the code; don't edit. These are the JSON bodies of the routes for operators and scripts. A
field that has its default value is left out. Sizes are bytes, times seconds, unless the name says otherwise.

"""

ROUTES: dict[str, type[Struct]] = {
    "Gateway: `GET /fleet`": FleetStatus,
    "Gateway: `GET /fleet/placement/{model}`": PlacementPlan,
    "Neuron: `GET /status`": NeuronStatus,
    "Neuron: `GET /discovery`": Discovery,
    "Neuron: `POST /models/load`, the order": LoadOrder,
    "Neuron: `POST /models/unload`, the order": UnloadOrder,
    "Both: the answer to a load order": LoadJob,
    "Neuron: `GET /models/{id}/probe`": ProbeReport,
}


def document() -> str:
    """The routes with the struct of each, then every struct once, in the order of its first use."""
    lines = [HEAD + "| route | document |", "|---|---|"]
    lines += [f"| {route} | {_link(struct)} |" for route, struct in ROUTES.items()]
    for struct in _all(list(ROUTES.values())):
        lines += ["", f"## {struct.__name__}", "", *_description(struct), *_table(struct)]
    return "\n".join(lines) + "\n"


def _all(wanted: list[type[Struct]]) -> list[type[Struct]]:
    found: list[type[Struct]] = []
    while wanted:
        struct = wanted.pop(0)
        if struct not in found:
            found.append(struct)
            wanted += [inner for field in _fields(struct) for inner in _structs(field.type)]
    return found


def _fields(struct: type[Struct]) -> tuple[inspect.Field, ...]:
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    return info.fields


def _structs(info: inspect.Type) -> Iterator[type[Struct]]:
    match info:
        case inspect.StructType(cls=struct):
            yield struct
        case inspect.ListType(item_type=item):
            yield from _structs(item)
        case inspect.DictType(value_type=value):
            yield from _structs(value)
        case inspect.UnionType(types=kinds):
            for kind in kinds:
                yield from _structs(kind)


def _description(struct: type[Struct]) -> list[str]:
    text = python.cleandoc(struct.__doc__ or "")
    return [text, ""] if text else []


def _table(struct: type[Struct]) -> Iterator[str]:
    yield "| field | type | default |"
    yield "|---|---|---|"
    for field in _fields(struct):
        yield f"| `{field.encode_name}` | {_type(field.type)} | {_default(field)} |"


def _type(info: inspect.Type) -> str:
    match info:
        case inspect.StructType(cls=struct):
            return _link(struct)
        case inspect.ListType(item_type=item):
            return f"list of {_type(item)}"
        case inspect.DictType(value_type=value):
            return f"object of {_type(value)}"
        case inspect.UnionType(types=kinds):
            return " or ".join(_type(kind) for kind in kinds)
        case inspect.LiteralType(values=values):
            return ", ".join(f"`{json.dumps(value)}`" for value in values)
        case _:
            return _PLAIN.get(type(info), "any")


_PLAIN: dict[type[inspect.Type], str] = {
    inspect.BoolType: "boolean",
    inspect.IntType: "integer",
    inspect.FloatType: "number",
    inspect.StrType: "string",
    inspect.NoneType: "null",
    inspect.BytesType: "base64",
}


def _default(field: inspect.Field) -> str:
    if field.required:
        return "always there"
    value = field.default_factory() if field.default is NODEFAULT else field.default
    return f"`{json.dumps(value)}`" if isinstance(value, str | int | float | list | dict | None) else "–"


def _link(struct: type[Struct]) -> str:
    return f"[{struct.__name__}](#{struct.__name__.lower()})"
