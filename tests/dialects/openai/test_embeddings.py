"""Embeddings and rerank: inputs of every kind, vectors in both encodings, ranks in order."""

from __future__ import annotations

import base64
import struct
from typing import Any

import msgspec
import pytest

from cortex.dialects.openai.embeddings import parse_embeddings
from cortex.dialects.openai.rerank import parse_rerank
from cortex.errors import BadRequest
from cortex.wire.events import Embedded, Finished, Scored, Usage
from cortex.wire.inference import EmbeddingRequest, RerankRequest
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


def rank(**fields: Any) -> dict[str, Any]:
    body = {"model": "demo", "query": "q", "documents": ["a", {"text": "b"}, "c"]} | fields
    call = parse_rerank(msgspec.json.encode(body), CONTEXT)
    collector = call.collector()
    collector.feed(0, [Scored(0, 0.1), Scored(1, 0.9), Scored(2, 0.1), END])
    return dict(msgspec.json.decode(collector.finish()))


def test_documents_may_be_objects() -> None:
    body = {"query": "q", "documents": ["a", {"text": "b"}]}
    (request,) = parse_rerank(msgspec.json.encode(body), CONTEXT).requests
    assert isinstance(request, RerankRequest)
    assert request.documents == ["a", "b"]


def test_the_best_comes_first_and_ties_keep_their_order() -> None:
    answer = rank()
    assert [(item["index"], item["relevance_score"]) for item in answer["results"]] == [(1, 0.9), (0, 0.1), (2, 0.1)]
    assert answer["results"][0]["document"] == {"text": "b"}
    assert answer["usage"] == {"prompt_tokens": 9, "total_tokens": 9}


def test_top_n_cuts_and_documents_can_be_left_out() -> None:
    assert rank(top_n=1, return_documents=False)["results"] == [{"index": 1, "relevance_score": 0.9}]


@pytest.mark.parametrize("fields", [{"documents": []}, {"top_n": 0}, {"query": None}])
def test_bad_rank_requests_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        rank(**fields)
