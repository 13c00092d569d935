"""A chat through gateway, neuron, worker and llama.cpp, and the same through a neuron without a gateway."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.e2e.clients import chat_body, open_stream, sdk
from tests.e2e.conftest import Fleet
from tests.e2e.models import EMOJI, HELLO, TICKS
from tests.e2e.processes import PLAIN, Daemon, eventually

QUESTION = [{"role": "user", "content": "Name the capital of France."}]


def test_the_openai_sdk_gets_the_same_answer_streamed_and_not(server: Daemon) -> None:
    options = {"model": "smollm2", "messages": QUESTION, "temperature": 0, "max_tokens": 24}
    with sdk(server) as client:
        whole = client.chat.completions.create(**options)
        chunks = list(client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "Paris" in text
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens > 0
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens > 10


@pytest.mark.parametrize(("asked", "said"), [("hello", HELLO), ("emoji", EMOJI)])
def test_a_script_arrives_byte_for_byte_streamed_and_not(server: Daemon, asked: str, said: str) -> None:
    answer = server.post("/v1/chat/completions", chat_body(asked)).json()
    assert answer["choices"][0]["message"]["content"] == said
    with open_stream(server, asked) as stream:
        pieces = list(stream.pieces())
    assert "".join(pieces) == said
    assert "\ufffd" not in "".join(pieces)
    assert (stream.done, stream.finish_reason) == (True, "stop")


def test_an_emoji_of_several_byte_tokens_is_one_delta(server: Daemon) -> None:
    with open_stream(server, "emoji") as stream:
        assert [piece for piece in stream.pieces() if "🎉" in piece]


def test_max_tokens_cuts_where_it_says(server: Daemon) -> None:
    answer = server.post("/v1/chat/completions", chat_body("forever", max_tokens=6)).json()
    assert answer["choices"][0] == answer["choices"][0] | {"finish_reason": "length"}
    assert answer["choices"][0]["message"]["content"] == TICKS * 3
    assert answer["usage"]["completion_tokens"] == 6


def test_models_list_what_is_loaded_and_what_can_be(server: Daemon) -> None:
    server.post("/v1/chat/completions", chat_body("hello")).raise_for_status()

    def states() -> dict[str, str]:
        found = {model["id"]: model["status"] for model in server.get("/v1/models").json()["data"]}
        return found if found.get("talker") == "ready" else {}

    assert eventually(states).keys() == {"smollm2", "talker"}
    assert server.get("/v1/models/talker").json()["id"] == "talker"


def test_the_second_of_two_equal_prompts_is_cached(server: Daemon) -> None:
    body = chat_body("hello again, and a few more words so that there is something to share")
    first, second = (server.post("/v1/chat/completions", body).json()["usage"] for _ in range(2))
    assert second["prompt_tokens_details"]["cached_tokens"] >= first["prompt_tokens"] - 1


def test_both_roles_tell_that_they_are_up(server: Daemon) -> None:
    assert server.get("/health").status_code == 200
    assert server.get("/version").json()["version"]


def test_the_neuron_parent_has_no_llama_cpp(fleet: Fleet) -> None:
    """A driver's crash must not reach it."""
    fleet.neuron.post("/v1/chat/completions", chat_body("hello")).raise_for_status()
    assert "libllama" not in Path(f"/proc/{fleet.neuron.pid}/maps").read_text()
    (worker, *_) = fleet.neuron.status()["workers"]
    assert "libllama" in Path(f"/proc/{worker['pid']}/maps").read_text()


# ---- bad input: one envelope, the right status, and what to do


def refused(answer: httpx.Response, status: int) -> dict[str, object]:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert {"message", "type", "param", "code"} <= error.keys()
    return error


def test_malformed_json_is_a_400(server: Daemon) -> None:
    answer = httpx.post(
        f"{server.url}/v1/chat/completions",
        content=b'{"model": "talker", "messages": [',
        headers={"content-type": "application/json"},
        timeout=60,
        **PLAIN,
    )
    assert "JSON" in refused(answer, 400)["message"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": "hello"},
        {"messages": [{"role": "user", "content": 5}]},
        {"messages": [{"role": "wizard", "content": "x"}]},
        {"max_tokens": "many"},
        {"temperature": {}},
        {"n": 0},
        {"stream": "yes"},
    ],
    ids=lambda wrong: str(wrong)[:40],
)
def test_wrong_types_are_a_400_that_names_the_field(server: Daemon, wrong: dict[str, object]) -> None:
    error = refused(server.post("/v1/chat/completions", chat_body("x") | wrong), 400)
    (field,) = wrong
    assert field in f"{error['param']} {error['message']}"


def test_an_unknown_model_is_a_404_with_those_that_exist(server: Daemon) -> None:
    error = refused(server.post("/v1/chat/completions", chat_body("x", model="gpt-17")), 404)
    assert error["code"] == "model_not_found"
    assert "talker" in str(error["message"])
    assert "smollm2" in str(error["message"])


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_beyond_the_context_is_a_400_with_both_numbers(server: Daemon, stream: bool) -> None:
    error = refused(server.post("/v1/chat/completions", chat_body("x" * 9000, stream=stream)), 400)
    assert error["code"] == "context_length_exceeded"
    assert "8192" in str(error["message"])
    assert "90" in str(error["message"])


def test_unknown_routes_and_methods_use_the_same_envelope(server: Daemon) -> None:
    refused(server.get("/v1/nonsense"), 404)
    refused(server.get("/v1/chat/completions"), 405)
