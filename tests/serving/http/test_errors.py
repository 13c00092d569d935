"""Bad input, unknown paths and failures: one envelope, the right status, in the caller's own dialect."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from cortex.config.settings import Config, LimitsConfig
from cortex.errors import ContextLengthExceeded, NoRoom, Overloaded, WorkerDied
from cortex.wire.events import Progress, Started, failed
from tests.serving.conftest import Serve
from tests.serving.fake_backend import FakeBackend, plain

CHAT: dict[str, Any] = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}


def error_of(body: dict[str, Any]) -> dict[str, Any]:
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert isinstance(body["error"]["message"], str)
    assert isinstance(body["error"]["code"], str)
    return dict(body["error"])


async def test_malformed_json_is_a_400_that_says_so(serve: Serve) -> None:
    async with serve() as running:
        reply = await running.http.post("/v1/chat/completions", content=b'{"model": ')
    assert reply.status_code == 400
    assert "not valid JSON" in error_of(reply.json())["message"]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"max_tokens": "many"}, "max_tokens"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"messages": []}, "messages"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"tool_choice": {"type": "function", "function": {"name": "nope"}}}, "tool_choice"),
    ],
)
async def test_a_wrong_field_is_named_by_its_path(serve: Serve, change: dict[str, Any], param: str) -> None:
    async with serve() as running:
        reply = await running.http.post("/v1/chat/completions", json=CHAT | change)
    assert reply.status_code == 400
    assert error_of(reply.json())["param"] == param
    assert error_of(reply.json())["type"] == "invalid_request_error"


async def test_an_unknown_model_is_a_404_that_lists_the_models(serve: Serve) -> None:
    async with serve() as running:
        reply = await running.http.post("/v1/chat/completions", json=CHAT | {"model": "nope"})
    assert reply.status_code == 404
    assert error_of(reply.json())["code"] == "model_not_found"
    assert "acme/demo-1B" in reply.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/nope", "/v1/nope", "/v1/models/no/such"])
async def test_an_unknown_path_is_json(serve: Serve, path: str) -> None:
    async with serve() as running:
        reply = await running.http.get(path)
    assert reply.status_code == 404
    error_of(reply.json())


async def test_an_unknown_path_is_named_and_so_is_the_usual_mistake(serve: Serve) -> None:
    """Clients put /v1 behind a base URL that ends in it already."""
    async with serve() as running:
        reply = await running.http.get("/nope")
        twice = await running.http.post("/v1/v1/messages", json=CHAT)
    assert "/nope" in error_of(reply.json())["message"]
    assert "/v1 twice" in error_of(twice.json())["message"]


async def test_a_wrong_method_is_a_405_in_json_that_says_which_are_right(serve: Serve) -> None:
    async with serve() as running:
        reply = await running.http.get("/v1/chat/completions")
        put = await running.http.put("/v1/models")
    assert reply.status_code == put.status_code == 405
    assert set(reply.headers["allow"].split(", ")) == {"POST", "OPTIONS"}
    assert set(put.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    assert "POST" in error_of(reply.json())["message"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
async def test_a_compressed_body_is_a_415_that_says_so(serve: Serve, path: str) -> None:
    async with serve() as running:
        content = gzip.compress(json.dumps(CHAT | {"input": "hi"}).encode())
        reply = await running.http.post(path, content=content, headers={"content-encoding": "gzip"})
        plain = await running.http.post(path, json=CHAT | {"input": "hi"}, headers={"content-encoding": "identity"})
    assert reply.status_code == 415
    assert "gzip" in reply.json()["error"]["message"]
    assert reply.headers["accept-encoding"] == "identity"
    assert plain.status_code == 200


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_beyond_the_limit_is_a_413(serve: Serve, chunked: bool) -> None:
    async def pieces() -> Any:
        for _ in range(64):
            yield b"x" * 1024

    config = Config(limits=LimitsConfig(body_bytes="16KiB"))
    async with serve(config=config) as running:
        content = pieces() if chunked else b"x" * 65536
        reply = await running.http.post("/v1/chat/completions", content=content)
        assert reply.status_code == 413
        assert error_of(reply.json())["code"] == "request_too_large"
        again = await running.http.post("/v1/chat/completions", json=CHAT)
        assert again.status_code == 200


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (ContextLengthExceeded("5000 tokens, 4096 fit"), 400, None),
        (Overloaded("the queue is full", retry_after=3), 503, "true"),
        (NoRoom("pins leave no room"), 503, "false"),
        (WorkerDied("signal 9"), 500, "true"),
    ],
)
async def test_a_failure_before_the_first_token_gets_a_real_status(
    serve: Serve, stream: bool, error: Any, status: int, retry: str | None
) -> None:
    """R9: what is known before the answer begins isn't hidden in a 200 stream."""
    backend = FakeBackend(lambda _: [[Progress("queued", 1, 2)], [failed(error)]])
    async with serve(backend) as running:
        reply = await running.http.post("/v1/chat/completions", json=CHAT | {"stream": stream})
    assert reply.status_code == status
    assert error_of(reply.json())["code"] == error.code
    assert reply.headers.get("x-should-retry") == retry
    assert reply.headers.get("retry-after") == (str(error.retry_after) if error.retry_after else None)
    assert running.records[0].ended == "refused"
    assert running.records[0].status == status


async def test_a_failure_mid_stream_is_an_error_frame_without_a_finish(serve: Serve) -> None:
    script = [*plain("a", "b")[:2], [failed(WorkerDied("signal 9"))]]
    async with serve(FakeBackend(lambda _: script)) as running:
        reply = await running.http.post("/v1/chat/completions", json=CHAT | {"stream": True})
    assert reply.status_code == 200
    frames = reply.text.strip().split("\n\n")
    assert '"code":"worker_died"' in frames[-1]
    assert '"finish_reason":"' not in reply.text
    assert running.records[0].ended == "error"


async def test_events_in_the_batch_of_a_failure_still_arrive(serve: Serve) -> None:
    script = [[*plain("a")[0], *plain("a")[1], failed(WorkerDied("signal 9"))]]
    async with serve(FakeBackend(lambda _: script)) as running:
        reply = await running.http.post("/v1/chat/completions", json=CHAT | {"stream": True})
    assert '"content":"a"' in reply.text
    assert "worker_died" in reply.text


@pytest.mark.parametrize("script", [[RuntimeError("bug")], [[Started(3)], RuntimeError("bug")], [], [[Started(3)]]])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_backend_that_breaks_its_contract_still_gives_an_answer(
    serve: Serve, script: list[Any], stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Every request has one end: an exception or a missing Finished becomes an internal error."""
    async with serve(FakeBackend(lambda _: script)) as running:
        reply = await running.http.post("/v1/chat/completions", json=CHAT | {"stream": stream})
    assert reply.status_code == (200 if stream and [Started(3)] in script else 500)
    assert '"code":"internal_error"' in reply.text
    assert "bug" not in reply.text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", CHAT),
        ("/v1/completions", {"model": "demo", "prompt": "x"}),
        ("/v1/responses", {"model": "demo", "input": "x"}),
        ("/v1/messages", CHAT),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_the_words_of_an_exceeded_context_reach_every_api(
    serve: Serve, path: str, body: dict[str, Any], stream: bool
) -> None:
    words = "the model's maximum context length is 8 tokens"
    async with serve(
        FakeBackend(lambda _: [ContextLengthExceeded(f"the prompt has 9 tokens, but {words}")])
    ) as running:
        reply = await running.http.post(path, json=body | {"stream": stream})
    assert reply.status_code == 400
    assert words in reply.json()["error"]["message"]


async def test_errors_on_anthropic_routes_wear_anthropics_envelope(serve: Serve) -> None:
    async with serve() as running:
        bad = await running.http.post("/v1/messages", content=b"{")
        unknown = await running.http.post("/v1/messages", json=CHAT | {"model": "nope", "max_tokens": 5})
        method = await running.http.put("/v1/messages")
        bare = await running.http.post("/messages", content=b"{")
        shared = await running.http.get("/v1/models/none", headers={"anthropic-version": "2023-06-01"})
    for reply, kind in [
        (bad, "invalid_request_error"),
        (bare, "invalid_request_error"),
        (unknown, "not_found_error"),
        (method, "invalid_request_error"),
        (shared, "not_found_error"),
    ]:
        assert reply.json()["type"] == "error"
        assert reply.json()["error"]["type"] == kind
        assert reply.headers["request-id"] == reply.json()["request_id"]


@pytest.mark.parametrize("given", ["", "abc-1"])
async def test_an_anthropic_error_in_mid_stream_has_the_id_of_the_headers(serve: Serve, given: str) -> None:
    script = [*plain("a", "b")[:2], [failed(WorkerDied("signal 9"))]]
    async with serve(FakeBackend(lambda _: script)) as running:
        body = CHAT | {"stream": True, "max_tokens": 5}
        reply = await running.http.post("/v1/messages", json=body, headers={"x-request-id": given})
    assert f'"request_id":"{reply.headers["request-id"]}"' in reply.text


@pytest.mark.parametrize("given", ["abc-1", "bad id\twith spaces", "x" * 300])
async def test_the_request_id_is_echoed_or_made(serve: Serve, given: str) -> None:
    async with serve() as running:
        reply = await running.http.post("/v1/chat/completions", json=CHAT, headers={"x-request-id": given})
        failing = await running.http.post("/v1/chat/completions", content=b"{", headers={"x-request-id": given})
    for answer in (reply, failing):
        echoed = answer.headers["x-request-id"]
        assert echoed == given if given == "abc-1" else echoed.startswith("req_")


async def test_two_requests_with_one_request_id_are_told_apart_inside(serve: Serve) -> None:
    async with serve() as running:
        for _ in range(2):
            await running.http.post("/v1/chat/completions", json=CHAT, headers={"x-request-id": "same"})
    first, second = running.backend.requests
    assert first.id != second.id
    assert first.id.startswith("same")
