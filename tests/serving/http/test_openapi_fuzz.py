"""The application's own OpenAPI document, used against it: whatever is sent, nothing ends in a 500."""

from __future__ import annotations

import os
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from cortex.config.settings import Config
from cortex.serving.exchange.backend import Emit
from cortex.serving.exchange.lifecycle import Lifecycle
from cortex.serving.http.app import build_app
from cortex.wire.events import ChoiceFinished, Embedded, Finished, Scored, Started, TextDelta, Usage
from cortex.wire.inference import EmbeddingRequest, InferenceRequest, Request, RerankRequest
from tests.serving.fake_backend import FakeBackend


class Willing(FakeBackend):
    """Knows every model and answers every request."""

    def resolve(self, name: str) -> str:
        return "acme/demo-1B"

    async def serve(self, request: Request, emit: Emit) -> None:
        match request:
            case InferenceRequest():
                ends = [ChoiceFinished("stop", choice=choice) for choice in range(request.n)]
                emit([Started(1), *(TextDelta("x", choice) for choice in range(request.n)), *ends])
            case EmbeddingRequest():
                emit([Started(1), *(Embedded(index, b"\0\0\x80?" * 4) for index in range(len(request.inputs)))])
            case RerankRequest():
                emit([Started(1), *(Scored(index, 0.5) for index in range(len(request.documents)))])
        emit([Finished(Usage(1))])


EXAMPLES = int(os.environ.get("CORTEX_FUZZ_EXAMPLES", "20"))
ALIASES = ("/api/v0", "/chat", "/completions", "/embeddings", "/messages", "/models", "/rerank", "/responses")
"""Paths that end in the same handlers as the standard ones."""


def operations() -> list[Any]:
    app = build_app(Willing(), Config(), Lifecycle(), role="neuron")
    schema = schemathesis.openapi.from_asgi("/schema/openapi.json", app)
    found = [result.ok() for result in schema.get_all_operations()]
    standard = [operation for operation in found if not operation.path.startswith(ALIASES)]
    return sorted(standard, key=lambda operation: operation.label)  # litestar keeps a handler's paths in a set


@pytest.mark.parametrize("operation", operations(), ids=lambda operation: operation.label)
def test_nothing_ends_in_a_server_error(operation: Any) -> None:
    @given(case=operation.as_strategy())
    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    def attempt(case: Any) -> None:
        reply = case.call()
        assert reply.status_code < 500, (case.body, reply.text)

    attempt()
