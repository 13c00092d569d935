"""The output format of a request, from the fields that clients use for it (named in `fields`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from cortex.dialects.fields import AskedFormat, GenerationBody, StructuredOutputs
from cortex.dialects.json_body import wire_safe
from cortex.errors import BadRequest, UnsupportedValue
from cortex.wire.inference import Grammar, JsonObjectFormat, JsonSchemaFormat, OutputFormat, TextFormat, Tool

__all__ = ["output_format_of"]

_TYPES = ("text", "json_object", "json_schema")
_SCHEMA_KEYS = {"type", "properties", "items", "enum", "const", "$ref", "$defs", "anyOf", "oneOf", "allOf"}
_REGEX_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")


class NamedSchema(Struct, frozen=True):
    name: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


def output_format_of(body: GenerationBody, tools: list[Tool]) -> OutputFormat:
    """The output format. Raises BadRequest when two fields ask for formats that contradict each other, or for a grammar
    beside tools; UnsupportedValue for a format of an unknown type."""
    asked = {name: format_ for name, format_ in _asked(body) if not isinstance(format_, TextFormat)}
    schemas = [format_ for format_ in asked.values() if isinstance(format_, JsonSchemaFormat)]
    if schemas:  # "a JSON object" says less than the schema beside it
        asked = {name: format_ for name, format_ in asked.items() if not isinstance(format_, JsonObjectFormat)}
    names = list(asked)
    for name in names[1:]:
        if not _same(asked[name], asked[names[0]]):
            raise BadRequest(f"{names[0]} and {name} ask for different formats; send one of them", param=name)
    if not names:
        return TextFormat()
    if tools and isinstance(asked[names[0]], Grammar):
        raise BadRequest(f"{names[0]} and tools can't be combined", param=names[0])
    return asked[names[0]]


def _same(one: OutputFormat, other: OutputFormat) -> bool:
    if isinstance(one, JsonSchemaFormat) and isinstance(other, JsonSchemaFormat):
        return one.schema == other.schema
    return one == other


def _asked(body: GenerationBody) -> Iterator[tuple[str, OutputFormat]]:
    """The format that each given field asks for, by the field's name."""
    if body.json_schema is not None:
        yield "json_schema", _json("json_schema", body.json_schema)
    if body.response_format:
        yield "response_format", _of(body.response_format, "response_format")
    if body.text and body.text.format:
        yield "text", _of(body.text.format, "text")
    if body.output_config and body.output_config.format:
        yield "output_config", _of(body.output_config.format, "output_config", strict=True)
    if body.output_format:
        yield "output_format", _of(body.output_format, "output_format", strict=True)
    if body.format:
        yield "format", _plain(body.format)
    if isinstance(body.structured_outputs, StructuredOutputs):
        yield "structured_outputs", _structured(body.structured_outputs)
    if body.guided_json is not None:
        yield "guided_json", _json("guided_json", body.guided_json)
    if body.guided_regex:
        yield "guided_regex", Grammar("regex", body.guided_regex)
    if body.guided_choice:
        yield "guided_choice", _choice(body.guided_choice)
    if body.guided_grammar:
        yield "guided_grammar", _grammar(body.guided_grammar)
    if body.grammar:
        yield "grammar", Grammar("gbnf", body.grammar)


def _of(asked: AskedFormat, name: str, *, strict: bool = False) -> OutputFormat:
    """The format of one field. `strict` is the field's default: Anthropic's formats are always enforced, OpenAI's on
    request."""
    has_schema = asked.json_schema is not None or asked.schema is not None
    match asked.type or ("json_schema" if has_schema else "text"):
        case "text":
            return TextFormat()
        case "json_object" | "json_schema":
            named = _named(asked, name)
            return _json(name, named.schema or {}, named.name, strict=strict if named.strict is None else named.strict)
        case other:
            known = ", ".join(_TYPES)
            raise UnsupportedValue(f"{name}: the format {other!r} is not supported; known: {known}", param=name)


def _named(asked: AskedFormat, name: str) -> NamedSchema:
    """The schema with its name, from `json_schema` or from beside `type`."""
    nested = asked.json_schema
    if nested is None:
        return NamedSchema(asked.name, asked.schema, asked.strict)
    if "schema" not in nested and _SCHEMA_KEYS & nested.keys():
        return NamedSchema(asked.name, nested, asked.strict)
    try:
        return msgspec.convert(nested, NamedSchema)
    except msgspec.ValidationError as error:
        raise BadRequest(f"{name}.json_schema: {error}", param=f"{name}.json_schema") from None


def _plain(asked: str | dict[str, Any]) -> OutputFormat:
    """Ollama's `format`: "json" or a schema. An object with one of our types is read as a `response_format`."""
    if asked in ("json", "json_object"):
        return JsonObjectFormat()
    if asked == "text":
        return TextFormat()
    if isinstance(asked, str):
        raise UnsupportedValue('format must be "json" or a JSON schema', param="format")
    if asked.get("type") not in _TYPES:
        return _json("format", asked)
    try:
        return _of(msgspec.convert(asked, AskedFormat), "format")
    except msgspec.ValidationError as error:
        raise BadRequest(f"format: {error}", param="format") from None


def _structured(asked: StructuredOutputs) -> OutputFormat:
    name = "structured_outputs"
    if asked.structural_tag is not None:
        raise UnsupportedValue(f"{name}.structural_tag is not supported", param=name)
    if asked.json is not None:
        return _json(name, asked.json)
    if asked.regex:
        return Grammar("regex", asked.regex)
    if asked.choice:
        return _choice(asked.choice)
    if asked.grammar:
        return _grammar(asked.grammar)
    return JsonObjectFormat() if asked.json_object else TextFormat()


def _json(name: str, schema: str | dict[str, Any], title: str | None = None, *, strict: bool = False) -> OutputFormat:
    """The format of a schema, which may be written as JSON text. Raises BadRequest when the text isn't an object."""
    if isinstance(schema, str):
        try:
            schema = msgspec.json.decode(schema, type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError):
            raise BadRequest(f"{name} is not a JSON schema", param=name) from None
    if not schema:
        return JsonObjectFormat()
    return JsonSchemaFormat(wire_safe(schema, name), title or "response", strict)


def _choice(texts: list[str]) -> Grammar:
    """One of the texts, literally."""
    return Grammar("regex", "|".join(_REGEX_SPECIAL.sub(r"\\\g<0>", text) for text in texts))


def _grammar(text: str) -> Grammar:
    """vLLM's grammars are Lark's or, with rules written `name ::= …`, GBNF."""
    return Grammar("gbnf" if "::=" in text else "lark", text)
