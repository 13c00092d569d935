"""`POST /v1/rerank` in the form of Jina's API, which Continue and most retrieval libraries use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from cortex.dialects.base import Call, CallContext, no_renderer
from cortex.dialects.json_body import decode_body
from cortex.dialects.openai.objects import encode
from cortex.errors import BadRequest
from cortex.wire.events import Event, Finished, Scored, Usage
from cortex.wire.inference import RerankRequest

__all__ = ["RerankBody", "RerankCollector", "parse_rerank"]


class RerankDocument(Struct, frozen=True):
    text: str


class RerankBody(Struct, frozen=True, kw_only=True):
    """`return_documents` defaults to true, as in Jina's API."""

    model: str = ""
    query: str
    documents: list[str | RerankDocument]
    top_n: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    return_documents: bool | None = None


class RerankUsage(Struct, frozen=True):
    prompt_tokens: int
    total_tokens: int


class RerankResult(Struct, frozen=True):
    index: int
    relevance_score: float
    document: RerankDocument | UnsetType = UNSET


class RerankAnswer(Struct, frozen=True):
    model: str
    object: str
    usage: RerankUsage
    results: list[RerankResult]


_decoder = msgspec.json.Decoder(RerankBody)


def parse_rerank(body: bytes, context: CallContext) -> Call:
    """A call for relevance scores. Raises BadRequest, and ModelNotFound from `context.resolve`."""
    decoded = decode_body(_decoder, body)
    if not decoded.documents:
        raise BadRequest("documents must not be empty", param="documents")
    request = RerankRequest(
        id=context.request_id,
        model=context.resolve(decoded.model),
        query=decoded.query,
        documents=[each if isinstance(each, str) else each.text for each in decoded.documents],
        principal=context.principal,
        dialect="rerank",
    )
    return Call(
        requests=[request],
        stream=False,
        renderer=no_renderer,
        collector=lambda: RerankCollector(decoded, request),
    )


class RerankCollector:
    """Collector of the scores: highest first, equal scores in the order of the documents."""

    def __init__(self, body: RerankBody, request: RerankRequest) -> None:
        self._body = body
        self._request = request
        self._scores: dict[int, float] = {}
        self._usage = Usage()

    def feed(self, part: int, events: Sequence[Event]) -> None:  # noqa: ARG002 - one request per answer
        for event in events:
            if isinstance(event, Scored):
                self._scores[event.index] = event.score
            elif isinstance(event, Finished):
                self._usage = event.usage

    def finish(self) -> bytes:
        best = sorted(self._scores, key=lambda index: (-self._scores[index], index))
        usage = RerankUsage(self._usage.prompt_tokens, self._usage.prompt_tokens)
        results = [self._result(index) for index in best[: self._body.top_n]]
        return encode(RerankAnswer(self._body.model or self._request.model, "list", usage, results))

    def _result(self, index: int) -> RerankResult:
        included = self._body.return_documents is not False
        document = RerankDocument(self._request.documents[index]) if included else UNSET
        return RerankResult(index, self._scores[index], document)
