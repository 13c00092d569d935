"""Grammars from formats and schemas, and the masks that they apply to logits."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from cortex.engine.chat.types import ConstraintSpec
from cortex.engine.grammar.compiler import ConstraintCompiler, spec_for_format
from cortex.engine.grammar.json_schema import checked_schema, closed, is_compilable
from cortex.errors import BadRequest, InternalError, InvalidSchema
from cortex.wire.inference import Grammar, JsonObjectFormat, JsonSchemaFormat, TextFormat
from tests.templates import vocabulary_gguf

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def vocab() -> Iterator[Any]:
    """A vocabulary without weights."""
    from llama_cpp import llama_cpp as c

    from cortex.engine.llama.model import Vocab

    c.llama_backend_init()
    params = c.llama_model_default_params()
    params.vocab_only = True
    model = c.llama_model_load_from_file(str(vocabulary_gguf("llama-bpe")).encode(), params)
    yield Vocab(c.llama_model_get_vocab(model))
    c.llama_model_free(model)


@pytest.fixture(scope="module")
def compiler(vocab: Any) -> ConstraintCompiler:
    return ConstraintCompiler(vocab)


def accepts(compiler: ConstraintCompiler, vocab: Any, spec: ConstraintSpec, text: str) -> bool:
    """Whether `text`, token by token, is allowed by the masks and then the output may end."""
    constraint = compiler.compile(spec)
    for token in vocab.tokenize(text, special=False):
        logits = np.zeros(vocab.size, dtype=np.float32)
        constraint.apply(logits)
        if logits[token] != 0:
            return False
        constraint.accept(token)
    logits = np.zeros(vocab.size, dtype=np.float32)
    constraint.apply(logits)
    return bool(logits[sorted(vocab.ends)].max() == 0)


@pytest.mark.parametrize(
    ("wanted", "good", "bad"),
    [
        (JsonObjectFormat(), '{"a": [1, {}]}', "[1]"),
        (JsonSchemaFormat(PERSON), '{"name": "Zoë", "age": 7}', '{"name": "Zoë"}'),
        (JsonSchemaFormat(PERSON), '{\n  "name": "Zoë",\n  "age": 7\n}', '{"name": 7, "age": 7}'),
        (Grammar("regex", "a/b{2}"), "a/bb", "a/b"),
        (Grammar("gbnf", 'root ::= "x" [0-9]+ "\\n"'), "x12\n", "x\n"),
        (Grammar("lark", 'start: "a" b\nb: /c+/'), "acc", "ab"),
    ],
)
def test_masks_let_through_what_fits_and_nothing_else(
    compiler: ConstraintCompiler, vocab: Any, wanted: Any, good: str, bad: str
) -> None:
    spec = spec_for_format(wanted)
    assert spec is not None
    assert accepts(compiler, vocab, spec, good)
    assert not accepts(compiler, vocab, spec, bad)


def test_plain_text_has_no_grammar() -> None:
    assert spec_for_format(TextFormat()) is None


def test_a_complete_grammar_says_so_and_reset_begins_anew(compiler: ConstraintCompiler, vocab: Any) -> None:
    constraint = compiler.compile(ConstraintSpec('start: "yes"\n'))
    for _ in range(2):
        for token in vocab.tokenize("yes", special=False):
            assert not constraint.is_complete()
            constraint.accept(token)
        assert constraint.is_complete()
        constraint.reset()


def test_constraints_of_one_grammar_are_apart(compiler: ConstraintCompiler, vocab: Any) -> None:
    first, second = (compiler.compile(ConstraintSpec('start: "a" "b"\n')) for _ in range(2))
    [a] = vocab.tokenize("a", special=False)
    first.accept(a)
    second.accept(a)
    with pytest.raises(InternalError, match="taking token"):
        second.accept(a)
    assert not first.is_complete()


def test_logits_beyond_the_vocabulary_are_forbidden(compiler: ConstraintCompiler, vocab: Any) -> None:
    logits = np.zeros(vocab.size + 5, dtype=np.float32)
    compiler.compile(ConstraintSpec('start: "a"\n')).apply(logits)
    assert np.all(np.isneginf(logits[vocab.size :]))


@pytest.mark.parametrize(
    ("wanted", "error", "message"),
    [
        (JsonSchemaFormat({"type": "nonsense"}), InvalidSchema, "at schema: Invalid type"),
        (
            JsonSchemaFormat({"type": "object", "properties": {"a": {"type": "array", "items": {"pattern": "("}}}}),
            InvalidSchema,
            r"at schema\.properties\.a\.items: .*unclosed group",
        ),
        (
            JsonSchemaFormat({"$ref": "#/$defs/x", "$defs": {"x": {"type": "no"}}}),
            InvalidSchema,
            r"at schema\.\$defs\.x",
        ),
        (JsonSchemaFormat({"anyOf": [{}, {"not": {}}]}), InvalidSchema, r"at schema\.anyOf\[1\]: Unimplemented keys"),
        (JsonSchemaFormat({"$ref": "http://example.org/schema"}), InvalidSchema, "not present"),
        (Grammar("gbnf", "root ::= ("), BadRequest, "gbnf grammar doesn't parse"),
        (Grammar("lark", "start: nowhere"), BadRequest, "lark grammar doesn't compile: .*nowhere"),
        (Grammar("regex", "("), BadRequest, "regex grammar doesn't compile"),
    ],
)
def test_what_cannot_be_enforced_is_refused_by_place(wanted: Any, error: type[BadRequest], message: str) -> None:
    with pytest.raises(error, match=message):
        spec_for_format(wanted)


def test_a_schema_that_is_not_strict_leaves_out_what_no_grammar_knows() -> None:
    assert spec_for_format(JsonSchemaFormat({"type": "array", "uniqueItems": True}, strict=False)) is not None
    assert not is_compilable({"type": "array", "uniqueItems": True}, strict=True)


def test_a_schema_nested_without_end_is_refused() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(20_000):
        schema = {"type": "array", "items": schema}
    with pytest.raises(InvalidSchema, match="nested too deeply"):
        checked_schema(schema, strict=True, where="schema")


def test_objects_of_tools_are_closed_unless_they_say_or_compose_otherwise() -> None:
    inner = {"properties": {"a": {}}}
    assert closed(inner)["additionalProperties"] is False
    assert closed({"properties": {"o": inner}})["properties"]["o"]["additionalProperties"] is False
    assert closed({"type": "array", "items": inner})["items"]["additionalProperties"] is False
    assert "additionalProperties" not in closed({"type": "object"})
    assert closed({**inner, "additionalProperties": True})["additionalProperties"] is True
    assert "additionalProperties" not in closed({**inner, "anyOf": [inner]})
    assert closed({"allOf": [inner, inner]}) == {"allOf": [inner, inner]}


def test_a_schema_that_closing_would_spoil_stays_open() -> None:
    schema = {"type": "object", "properties": {}, "required": ["a"]}
    ready = checked_schema(schema, strict=False, where="schema", compact=True)
    assert "additionalProperties" not in ready


def test_only_the_latest_grammars_are_kept(compiler: ConstraintCompiler) -> None:
    for number in range(80):
        compiler.compile(ConstraintSpec(f'start: "{number}"\n'))
    assert len(compiler._kept) == 64


def test_a_mask_prepared_in_another_thread_is_the_one_that_is_applied(compiler: ConstraintCompiler, vocab: Any) -> None:
    """Preparing twice, or not at all, makes no difference; accepting a token or resetting makes a mask stale."""
    spec = spec_for_format(JsonSchemaFormat(PERSON))
    assert spec is not None
    plain, ahead = compiler.compile(spec), compiler.compile(spec)
    with ThreadPoolExecutor(1) as pool:
        for text in ('{"name": "Zoë", "age": 7}', '{"na'):
            for token in vocab.tokenize(text, special=False):
                pool.submit(ahead.prepare).result(timeout=60)
                ahead.prepare()
                expected, found = np.zeros((2, vocab.size), dtype=np.float32)
                plain.apply(expected)
                ahead.apply(found)
                assert np.array_equal(expected, found)
                plain.accept(token)
                ahead.accept(token)
            plain.reset()
            ahead.reset()
