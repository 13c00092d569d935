"""Images by every API to a model with a vision encoder, through gateway, neuron, worker and llama.cpp."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from anthropic import Anthropic

from tests.e2e.clients import sdk
from tests.e2e.conftest import Fleet, Launcher
from tests.e2e.processes import Daemon, eventually
from tests.pictures import BLUE, RED, build_seeing, png

SAID = {RED: "Red it is.", BLUE: "Blue it is, I'd say."}
LOOK = {"name": "look", "description": "Looks.", "input_schema": {"type": "object", "properties": {}}}


@pytest.fixture(scope="module")
def seers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A gateway and a neuron with `seeing`, whose projector is beside it, and `blind`, the same model without."""
    directory = tmp_path_factory.mktemp("seers")
    text, _ = build_seeing(directory / "models")
    shutil.copy(text, directory / "models" / "blind.gguf")
    launcher = Launcher(directory, [])
    try:
        neuron = launcher.neuron(directory / "models")
        yield Fleet(launcher.gateway(neuron), neuron)
    finally:
        launcher.stop()


@pytest.fixture(params=["gateway", "neuron"])
def seer(request: pytest.FixtureRequest, seers: Fleet) -> Daemon:
    return seers.at(request.param)


def uri(colour: tuple[int, int, int]) -> str:
    return f"data:image/png;base64,{encoded(png(colour))}"


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def chat(*images: str, model: str = "seeing", text: str = "what is it?", **options: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": text}, *({"type": "image_url", "image_url": {"url": url}} for url in images)]
    return {"model": model, "messages": [{"role": "user", "content": content}], "temperature": 0, **options}


def block(data: bytes) -> dict[str, Any]:
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": encoded(data)}}


@pytest.mark.parametrize("colour", [RED, BLUE])
def test_openai_chat(seer: Daemon, colour: tuple[int, int, int]) -> None:
    with sdk(seer) as client:
        whole = client.chat.completions.create(**chat(uri(colour)))
        chunks = client.chat.completions.create(**chat(uri(colour)), stream=True)
        pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert whole.choices[0].message.content == "".join(pieces) == SAID[colour]


@pytest.mark.parametrize("colour", [RED, BLUE])
def test_openai_responses(seer: Daemon, colour: tuple[int, int, int]) -> None:
    content = [{"type": "input_text", "text": "what?"}, {"type": "input_image", "image_url": uri(colour)}]
    with sdk(seer) as client:
        answer = client.responses.create(model="seeing", input=[{"role": "user", "content": content}], temperature=0)
    assert answer.output_text == SAID[colour]


@pytest.mark.parametrize("colour", [RED, BLUE])
def test_anthropic_messages_and_their_count(seer: Daemon, colour: tuple[int, int, int]) -> None:
    asked: Any = {
        "model": "seeing",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "what?"}, block(png(colour))]}],
    }
    with anthropic(seer) as client:
        answer = client.messages.create(**asked, max_tokens=50)
        counted = client.messages.count_tokens(**asked)
    assert said(answer) == SAID[colour]
    usage = answer.usage
    assert counted.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)


@pytest.mark.parametrize("colour", [RED, BLUE])
def test_a_picture_that_a_tool_brings(seer: Daemon, colour: tuple[int, int, int]) -> None:
    call = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
    result = {
        "type": "tool_result",
        "tool_use_id": "toolu_1",
        "content": [{"type": "text", "text": "seen"}, block(png(colour))],
    }
    messages: Any = [
        {"role": "user", "content": "look there"},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]
    with anthropic(seer) as client:
        asked: Any = {"model": "seeing", "tools": [LOOK], "messages": messages}
        answer = client.messages.create(**asked, max_tokens=50)
        counted = client.messages.count_tokens(**asked)
    assert said(answer) == SAID[colour]
    assert counted.input_tokens == answer.usage.input_tokens + (answer.usage.cache_read_input_tokens or 0)


def test_the_same_picture_is_cached_and_another_is_not(seer: Daemon) -> None:
    body = chat(uri(RED), text=f"a question of its own for {seer.pid}")
    usages = [
        seer.post("/v1/chat/completions", one).json()["usage"]
        for one in (body, body, chat(uri(BLUE), text=f"a question of its own for {seer.pid}"))
    ]
    cached = [usage["prompt_tokens_details"]["cached_tokens"] for usage in usages]
    prompt = usages[0]["prompt_tokens"]
    assert cached[0] < prompt - 6
    assert cached[1:] == [prompt - 1, prompt - 6]


@pytest.mark.parametrize("data", [b"no picture at all", png(RED)[:60]])
def test_a_picture_that_cannot_be_read_is_a_400_in_the_callers_dialect(seer: Daemon, data: bytes) -> None:
    refused = seer.post("/v1/chat/completions", chat(f"data:image/png;base64,{encoded(data)}", stream=True))
    assert refused.status_code == 400
    assert refused.json()["error"]["type"] == "invalid_request_error"
    message = {"role": "user", "content": [block(data), {"type": "text", "text": "?"}]}
    refused = seer.post("/v1/messages", {"model": "seeing", "max_tokens": 5, "messages": [message]})
    assert refused.status_code == 400
    assert refused.json()["error"]["type"] == "invalid_request_error"
    assert refused.json()["type"] == "error"


def test_a_model_without_a_projector_says_so(seer: Daemon) -> None:
    refused = seer.post("/v1/chat/completions", chat(uri(RED), model="blind"))
    assert refused.status_code == 400
    assert "takes no images" in refused.json()["error"]["message"]


def test_the_models_say_who_sees_before_and_after_they_are_loaded(seers: Fleet) -> None:
    def capabilities() -> dict[str, bool]:
        return {
            model["id"]: "vision" in model["capabilities"] for model in seers.gateway.get("/v1/models").json()["data"]
        }

    assert eventually(lambda: capabilities() == {"seeing": True, "blind": False})
    seers.neuron.post("/v1/chat/completions", chat(uri(RED))).raise_for_status()
    assert eventually(lambda: capabilities() == {"seeing": True, "blind": False})
    probed = seers.neuron.get("/models/seeing/probe").json()
    assert any(line.startswith("vision: ") for line in probed["evidence"])


def said(answer: Any) -> str:
    return "".join(part.text for part in answer.content)


def anthropic(server: Daemon) -> Anthropic:
    return Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=60)
