"""The routes themselves: aliases, models, documents, stored responses, and what observers are told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from cortex.config.settings import AuthConfig, Config, LimitsConfig
from cortex.wire.events import ChoiceFinished, Embedded, Failed, Finished, Scored, Started, TextDelta, Usage
from cortex.wire.inference import EmbeddingRequest, InferenceRequest, Request, RerankRequest
from cortex.wire.status import Limits, ModelCard, ModelStatus
from tests.serving.conftest import Serve
from tests.serving.fake_backend import FakeBackend, Pause, plain

CHAT: dict[str, Any] = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}


def by_kind(request: Request) -> list[Any]:
    end = Finished(Usage(prompt_tokens=3))
    match request:
        case EmbeddingRequest():
            return [[Started(3)], [Embedded(0, b"\0\0\x80?"), end]]
        case RerankRequest():
            return [[Started(3), Scored(0, 0.5), end]]
        case InferenceRequest(count_only=True):
            return [[Started(3), end]]
        case _:
            return plain("Hello")


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/v1/chat/completions", CHAT, '"content":"Hello"'),
        ("/chat/completions", CHAT, '"content":"Hello"'),
        ("/api/v0/chat/completions", CHAT, '"content":"Hello"'),
        ("/v1/completions", {"model": "demo", "prompt": "x"}, '"text":"Hello"'),
        ("/completions", {"model": "demo", "prompt": "x"}, '"text":"Hello"'),
        ("/v1/embeddings", {"model": "demo", "input": "x"}, '"embedding":[1.0]'),
        ("/embeddings", {"model": "demo", "input": "x"}, '"embedding":[1.0]'),
        ("/v1/rerank", {"model": "demo", "query": "q", "documents": ["d"]}, '"relevance_score":0.5'),
        ("/rerank", {"model": "demo", "query": "q", "documents": ["d"]}, '"relevance_score":0.5'),
        ("/v1/messages", CHAT | {"max_tokens": 5}, '"text":"Hello"'),
        ("/messages", CHAT | {"max_tokens": 5}, '"text":"Hello"'),
        ("/v1/messages?beta=true", CHAT | {"max_tokens": 5}, '"text":"Hello"'),
        ("/messages/count_tokens", CHAT, '"input_tokens":3'),
        ("/v1/messages/count_tokens?beta=true", CHAT, '"input_tokens":3'),
        ("/v1/responses", {"model": "demo", "input": "hi"}, '"text":"Hello"'),
        ("/responses", {"model": "demo", "input": "hi"}, '"text":"Hello"'),
    ],
)
async def test_every_route_answers(serve: Serve, path: str, body: dict[str, Any], expected: str) -> None:
    async with serve(FakeBackend(by_kind)) as running:
        reply = await running.http.post(path, json=body)
    assert reply.status_code == 200, reply.text
    assert expected in reply.text
    assert reply.headers["content-type"] == "application/json"
    assert [record.ended for record in running.records] == ["ok"]


async def test_a_body_needs_no_content_type(serve: Serve) -> None:
    async with serve() as running:
        reply = await running.http.post(
            "/v1/completions", content=b'{"model":"demo","prompt":"x"}', headers={"content-type": "text/plain"}
        )
    assert reply.status_code == 200


async def test_a_model_is_found_by_id_with_slashes_and_by_alias(serve: Serve) -> None:
    async with serve() as running:
        for name in ("acme/demo-1B", "demo"):
            assert (await running.http.get(f"/v1/models/{name}")).json()["id"] == "acme/demo-1B"


@pytest.mark.parametrize("path", ["/health", "/version", "/v1/models", "/v1/models/demo"])
async def test_what_can_be_got_can_be_asked_after(serve: Serve, path: str) -> None:
    """HEAD gives GET's headers and no body: monitors and proxies ask so."""
    async with serve() as running:
        reply = await running.http.head(path)
        whole = await running.http.get(path)
    assert reply.status_code == 200
    assert reply.content == b""
    assert reply.headers["content-length"] == whole.headers["content-length"]


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/demo"])
async def test_an_answer_about_models_carries_a_request_id(serve: Serve, path: str) -> None:
    async with serve() as running:
        reply = await running.http.get(path, headers={"x-request-id": "mine"})
    assert reply.headers["x-request-id"] == reply.headers["request-id"] == "mine"


async def test_the_list_follows_its_readers(serve: Serve) -> None:
    async with serve() as running:
        plain_list = (await running.http.get("/v1/models")).json()
        codex = (await running.http.get("/v1/models?client_version=0.153")).json()
        anthropic = (await running.http.get("/v1/models", headers={"anthropic-version": "2023-06-01"})).json()
    assert set(plain_list) == {"object", "data"}
    assert codex["models"] == []
    assert anthropic["has_more"] is False


async def test_a_model_that_vanished_between_look_up_and_list_is_not_found(serve: Serve) -> None:
    class Forgetful(FakeBackend):
        def resolve(self, name: str) -> str:
            return "gone"

    async with serve(Forgetful()) as running:
        assert (await running.http.get("/v1/models/x")).status_code == 404


async def test_the_document_describes_bodies_of_every_client_route(serve: Serve) -> None:
    async with serve() as running:
        document = (await running.http.get("/schema/openapi.json")).json()
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/messages", "/v1/responses"):
        schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        name = schema["$ref"].rsplit("/", 1)[1]
        assert "model" in document["components"]["schemas"][name]["properties"], path
        assert "401" in document["paths"][path]["post"]["responses"]


async def test_the_document_needs_nothing_from_elsewhere(serve: Serve) -> None:
    async with serve() as running:
        for path in ("/schema", "/schema/openapi.json"):
            reply = await running.http.get(path)
            assert reply.status_code == 200
            assert reply.json()["openapi"].startswith("3.")


async def test_a_stored_response_can_be_read_gone_on_from_and_deleted(serve: Serve) -> None:
    async with serve() as running:
        http = running.http
        for stream in (False, True):
            first = await http.post("/v1/responses", json={"model": "demo", "input": "hi", "stream": stream})
            marker = '"id":"resp_'
            response_id = "resp_" + first.text.split(marker, 1)[1].split('"', 1)[0]
            read = await http.get(f"/v1/responses/{response_id}")
            assert read.json()["output"][0]["content"][0]["text"] == "Hello, world"
            assert (await http.get(f"/v1/responses/{response_id}?stream=true")).status_code == 400
            body = {"model": "demo", "input": "more", "previous_response_id": response_id}
            assert (await http.post("/v1/responses", json=body)).status_code == 200
            last = running.backend.requests[-1]
            assert isinstance(last, InferenceRequest)
            assert [message.role for message in last.messages] == ["user", "assistant", "user"]
            assert (await http.delete(f"/v1/responses/{response_id}")).json()["deleted"] is True
            assert (await http.get(f"/v1/responses/{response_id}")).status_code == 404
            assert (await http.post("/v1/responses", json=body)).status_code in {400, 404}


async def test_items_of_stored_responses_may_be_referred_to(serve: Serve) -> None:
    """As the AI SDK's default provider does in every step after the first."""
    async with serve() as running:
        items: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]
        for step in (1, 2, 3):
            reply = await running.http.post("/v1/responses", json={"model": "demo", "input": items})
            assert reply.status_code == 200, reply.text
            last = running.backend.requests[-1]
            assert isinstance(last, InferenceRequest)
            assert len(last.messages) == 2 * step - 1
            items += [{"type": "item_reference", "id": item["id"]} for item in reply.json()["output"]]
            items += [{"role": "user", "content": "more"}]
        await running.http.delete(f"/v1/responses/{reply.json()['id']}")
        reply = await running.http.post("/v1/responses", json={"model": "demo", "input": items})
    assert reply.status_code == 400
    assert items[-2]["id"] in reply.json()["error"]["message"]


async def test_another_keys_items_are_not_found(serve: Serve) -> None:
    keys = AuthConfig(keys=["k1", "k2"])
    async with serve(config=Config(auth=keys)) as running:
        mine, theirs = ({"authorization": f"Bearer {key}"} for key in ("k1", "k2"))
        body: dict[str, Any] = {"model": "demo", "input": "hi"}
        reply = await running.http.post("/v1/responses", json=body, headers=mine)
        body["input"] = [{"type": "item_reference", "id": reply.json()["output"][0]["id"]}]
        assert (await running.http.post("/v1/responses", json=body, headers=theirs)).status_code == 400
        assert (await running.http.post("/v1/responses", json=body, headers=mine)).status_code == 200


async def test_events_of_one_batch_leave_in_one_write(serve: Serve) -> None:
    """Fewer writes, fewer wake-ups on both sides."""
    deltas = [TextDelta(letter) for letter in "abcdefgh"]
    script = [[Started(3)], [*deltas, ChoiceFinished("stop"), Finished(Usage(3, 0, 8))]]
    body = CHAT | {"stream": True}
    async with (
        serve(FakeBackend(lambda _: script)) as running,
        running.http.stream("POST", "/v1/chat/completions", json=body) as reply,
    ):
        pieces = [piece async for piece in reply.aiter_raw()]
    assert b"".join(pieces).count(b"\n\n") == 11
    assert len(pieces) <= 2


async def test_observers_are_told_once_per_request_with_its_dialect(serve: Serve) -> None:
    async with serve(FakeBackend(by_kind)) as running:
        await running.http.post("/v1/completions", json={"model": "demo", "prompt": ["a", "b", "c"]})
        await running.http.post("/v1/messages", json=CHAT | {"max_tokens": 5, "stream": True})
    assert [record.dialect for record in running.records] == ["openai_completions"] * 3 + ["anthropic_messages"]
    assert {record.ended for record in running.records} == {"ok"}


async def test_one_failing_prompt_fails_its_batch_and_cancels_the_rest(serve: Serve) -> None:
    def script(request: Request) -> list[Any]:
        return [[Failed("invalid_request", "no")]] if request.id.endswith("-1") else [[Started(3)], Pause()]

    async with serve(FakeBackend(script)) as running:
        reply = await running.http.post("/v1/completions", json={"model": "demo", "prompt": ["a", "b", "c"]})
    assert reply.status_code == 400
    assert running.backend.running == 0
    assert len(running.backend.cancelled) == 2
    assert [record.status for record in running.records] == [400, 400, 400]


async def test_the_newest_state_is_listed(serve: Serve) -> None:
    async with serve() as running:
        running.backend.statuses = [(ModelStatus(ModelCard("new", Limits(context=5)), state="loading"), [])]
        assert (await running.http.get("/v1/models")).json()["data"][0]["state"] == "loading"


async def test_a_path_in_another_spelling_is_answered_and_guarded_like_the_standard_one(serve: Serve) -> None:
    """It goes the long way through litestar, with the same key check and envelope."""
    async with serve(FakeBackend(by_kind), Config(auth=AuthConfig(keys=["k"]))) as running:
        for path in ("/v1/chat/completions", "/v1/chat/completions/"):
            reply = await running.http.post(path, json=CHAT, headers={"authorization": "Bearer k"})
            assert '"content":"Hello"' in reply.text
            assert (await running.http.post(path, json=CHAT)).json()["error"]["code"] == "invalid_api_key"
            assert (await running.http.put(path, json=CHAT, headers={"x-api-key": "k"})).status_code == 405


async def test_a_body_without_a_declared_length_is_bounded_too(serve: Serve) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 100

    async with serve(config=Config(limits=LimitsConfig(body_bytes=2000))) as running:
        reply = await running.http.post("/v1/chat/completions", content=pieces())
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "request_too_large")
