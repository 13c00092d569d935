"""OpenAI's `POST /v1/embeddings`: request body to wire request, vectors to the answer.

Fields after openai's Python SDK 3.54 (`types/embedding_create_params.py`, `types/create_embedding_response.py`).
"""

from __future__ import annotations

import base64
import math
from array import array
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from cortex.dialects.base import Call, CallContext, no_renderer
from cortex.dialects.fields import TokenId
from cortex.dialects.json_body import decode_body
from cortex.dialects.openai.objects import encode
from cortex.errors import BadRequest
from cortex.wire.events import Embedded, Event, Finished, Usage
from cortex.wire.inference import EmbeddingRequest

__all__ = ["EmbeddingBody", "EmbeddingCollector", "parse_embeddings"]


class EmbeddingBody(Struct, frozen=True, kw_only=True):
    model: str = ""
    input: str | list[str | TokenId | list[TokenId]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=2**20)] | None = None


class EmbeddingObject(Struct, frozen=True):
    object: str
    index: int
    embedding: list[float] | str


class EmbeddingUsage(Struct, frozen=True):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Struct, frozen=True):
    object: str
    data: list[EmbeddingObject]
    model: str
    usage: EmbeddingUsage


_decoder = msgspec.json.Decoder(EmbeddingBody)


def parse_embeddings(body: bytes, context: CallContext) -> Call:
    """A call for embeddings. Raises BadRequest, and ModelNotFound from `context.resolve`."""
    decoded = decode_body(_decoder, body)
    request = EmbeddingRequest(
        id=context.request_id,
        model=context.resolve(decoded.model),
        inputs=_inputs(decoded.input),
        principal=context.principal,
        dialect="openai_embeddings",
    )
    model = decoded.model or request.model
    as_base64 = decoded.encoding_format == "base64"
    return Call(
        requests=[request],
        stream=False,
        renderer=no_renderer,
        collector=lambda: EmbeddingCollector(model, decoded.dimensions, as_base64),
    )


def _inputs(given: str | list[str | int | list[int]]) -> list[str | list[int]]:
    if isinstance(given, str):
        return [given]
    ids = [item for item in given if isinstance(item, int)]
    if ids and len(ids) == len(given):
        return [ids]
    inputs = [item for item in given if not isinstance(item, int)]
    if not inputs or ids:
        raise BadRequest("input must be text, token ids, or a non-empty list of either", param="input")
    return inputs


class EmbeddingCollector:
    """Collector of the vectors, each float32 in native byte order.

    `dimensions` keeps that many leading values of each and scales the rest to unit length. `as_base64` sends the
    float32 bytes as base64 instead of numbers.
    """

    def __init__(self, model: str, dimensions: int | None, as_base64: bool) -> None:
        self._model = model
        self._dimensions = dimensions
        self._as_base64 = as_base64
        self._vectors: dict[int, bytes] = {}
        self._usage = Usage()

    def feed(self, part: int, events: Sequence[Event]) -> None:  # noqa: ARG002 - one request per answer
        for event in events:
            if isinstance(event, Embedded):
                self._vectors[event.index] = event.vector
            elif isinstance(event, Finished):
                self._usage = event.usage

    def finish(self) -> bytes:
        """Raises BadRequest when the request asks for more dimensions than the vectors have."""
        data = [
            EmbeddingObject("embedding", index, self._encoded(self._vectors[index])) for index in sorted(self._vectors)
        ]
        usage = EmbeddingUsage(self._usage.prompt_tokens, self._usage.prompt_tokens)
        return encode(EmbeddingList("list", data, self._model, usage))

    def _encoded(self, vector: bytes) -> list[float] | str:
        if self._dimensions is not None:
            vector = _shortened(vector, self._dimensions)
        if self._as_base64:
            return base64.b64encode(vector).decode()
        return array("f", vector).tolist()


def _shortened(vector: bytes, dimensions: int) -> bytes:
    available = len(vector) // 4
    if dimensions > available:
        raise BadRequest(f"the model's vectors have {available} dimensions, not {dimensions}", param="dimensions")
    kept = array("f", vector[: dimensions * 4])
    length = math.sqrt(math.fsum(value * value for value in kept))
    return array("f", [value / length for value in kept]).tobytes() if length else kept.tobytes()
