"""Rerank requests and answers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cortex.dialects.openai.rerank import parse_rerank
from cortex.errors import BadRequest
from cortex.wire.events import Finished, Scored, Usage
from cortex.wire.inference import RerankRequest
from tests.dialects.harness import CONTEXT

END = Finished(Usage(prompt_tokens=9))


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
