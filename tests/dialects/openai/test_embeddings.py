"""Embedding requests and answers."""

from __future__ import annotations

import base64
import struct
from typing import Any

import msgspec
import pytest

from cortex.dialects.openai.embeddings import parse_embeddings
from cortex.errors import BadRequest
from cortex.wire.events import Embedded, Finished, Usage
from cortex.wire.inference import EmbeddingRequest
from tests.dialects.harness import CONTEXT

VECTOR = struct.pack("<4f", 0.5, 0.5, 0.5, 0.5)
END = Finished(Usage(prompt_tokens=9))


def embed(**fields: Any) -> dict[str, Any]:
    call = parse_embeddings(msgspec.json.encode({"model": "demo", "input": "x"} | fields), CONTEXT)
    collector = call.collector()
    collector.feed(0, [Embedded(1, VECTOR), Embedded(0, VECTOR), END])
    return dict(msgspec.json.decode(collector.finish()))


@pytest.mark.parametrize(
    ("given", "expected"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1], [2]], [[1], [2]])],
)
def test_every_kind_of_input(given: Any, expected: list[Any]) -> None:
    (request,) = parse_embeddings(msgspec.json.encode({"model": "demo", "input": given}), CONTEXT).requests
    assert isinstance(request, EmbeddingRequest)
    assert request.inputs == expected


@pytest.mark.parametrize("given", [[], [1, "a"], [-1], 5, None])
def test_other_inputs_are_refused(given: Any) -> None:
    with pytest.raises(BadRequest):
        embed(input=given)


def test_vectors_are_numbers_in_the_order_of_the_inputs_with_usage() -> None:
    answer = embed(input=["a", "b"])
    assert [item["index"] for item in answer["data"]] == [0, 1]
    assert answer["data"][0]["embedding"] == [0.5, 0.5, 0.5, 0.5]
    assert answer["usage"] == {"prompt_tokens": 9, "total_tokens": 9}


def test_base64_is_little_endian_float32() -> None:
    assert base64.b64decode(embed(encoding_format="base64")["data"][0]["embedding"]) == VECTOR


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_fewer_dimensions_are_a_unit_vector_again(encoding: str) -> None:
    shown = embed(dimensions=2, encoding_format=encoding)["data"][0]["embedding"]
    vector = shown if encoding == "float" else struct.unpack("<2f", base64.b64decode(shown))
    assert vector == pytest.approx([2**-0.5, 2**-0.5])


def test_more_dimensions_than_there_are_is_a_bad_request() -> None:
    with pytest.raises(BadRequest, match="4 dimensions"):
        embed(dimensions=5)
