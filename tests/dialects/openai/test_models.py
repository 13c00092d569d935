"""One model object for every reader of /v1/models."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from anthropic.types import ModelInfo

from cortex.dialects.openai.models import ListStyle, model_list, model_object
from cortex.wire.status import Capabilities, Cost, Limits, ModelCard, ModelState, ModelStatus

CARD = ModelCard(
    "acme/demo-1B",
    Limits(context=4096, output=512),
    Capabilities(tools=True, vision=True),
    aliases=["demo"],
    created=1700000000,
    cost=Cost(input=1.0),
)
MODELS = [(ModelStatus(CARD, state="ready", context=2048), ["beast"]), (ModelStatus(ModelCard("b", Limits(8))), [])]


class OpenAIModel(msgspec.Struct):
    """The four fields that OpenAI's SDK requires."""

    id: str
    object: str
    created: int
    owned_by: str


class AnthropicModel(msgspec.Struct):
    """Anthropic's SDK requires these."""

    id: str
    type: str
    display_name: str
    created_at: str
    lifecycle: str


class LmStudioModel(msgspec.Struct):
    """Zed's LM Studio reader fails on the whole list when one of these is off."""

    id: str
    object: str
    type: str
    publisher: str
    compatibility_type: str
    state: str
    arch: str | None = None
    quantization: str | None = None
    max_context_length: int | None = None
    loaded_context_length: int | None = None
    capabilities: list[str] = []


def shown(style: ListStyle | None = None) -> dict[str, Any]:
    return dict(msgspec.json.decode(model_list(MODELS, style or ListStyle())))


@pytest.mark.parametrize("reader", [OpenAIModel, LmStudioModel])
@pytest.mark.parametrize("style", [ListStyle(), ListStyle(codex=True)], ids=str)
def test_every_reader_accepts_every_model(reader: type[msgspec.Struct], style: ListStyle) -> None:
    for model in shown(style)["data"]:
        msgspec.convert(model, reader)


def test_anthropics_readers_accept_every_model_in_their_list() -> None:
    for model in shown(ListStyle(anthropic=True))["data"]:
        msgspec.convert(model, AnthropicModel)
        msgspec.convert(model, OpenAIModel)
        ModelInfo.model_validate(model, strict=False)


def test_anthropics_readers_learn_what_a_model_can_do() -> None:
    model = ModelInfo.model_validate(shown(ListStyle(anthropic=True))["data"][0])
    assert model.capabilities
    assert model.capabilities.image_input.supported
    assert model.capabilities.structured_outputs.supported
    assert not model.capabilities.thinking.supported
    assert model.capabilities.thinking.types.disabled.supported
    assert not model.capabilities.effort.high.supported
    assert not model.capabilities.server_tools.supported


def test_what_a_client_needs_to_choose_is_there() -> None:
    model = shown()["data"][0]
    assert model["limits"] == {"context": 4096, "output": 512}
    assert model["capabilities"] == ["chat", "completion", "vision", "tool_use"]
    assert model["neurons"] == ["beast"]
    assert (model["state"], model["status"], model["type"]) == ("loaded", "ready", "vlm")
    assert (model["max_context_length"], model["loaded_context_length"]) == (4096, 2048)
    assert model["cost"]["input"] == 1.0


def test_anthropics_list_has_paging_keys_and_its_type() -> None:
    answer = shown(ListStyle(anthropic=True))
    assert (answer["has_more"], answer["first_id"], answer["last_id"]) == (False, "acme/demo-1B", "b")
    assert {model["type"] for model in answer["data"]} == {"model"}
    assert "has_more" not in shown()


def test_an_empty_anthropic_list_has_no_first_model() -> None:
    answer = msgspec.json.decode(model_list([], ListStyle(anthropic=True)))
    assert (answer["data"], answer["first_id"]) == ([], None)


def test_codex_finds_its_models_key() -> None:
    """codex#22205."""
    assert shown(ListStyle(codex=True))["models"] == []
    assert "models" not in shown()


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("ready", "loaded"),
        ("loading", "loading"),
        ("unloaded", "not-loaded"),
        ("unloading", "not-loaded"),
        ("failed", "not-loaded"),
    ],
)
def test_states_have_lm_studios_words(state: ModelState, expected: str) -> None:
    assert msgspec.json.decode(model_object(ModelStatus(CARD, state=state), [], ListStyle()))["state"] == expected


def test_embedding_models_are_of_their_own_type() -> None:
    card = ModelCard("e", Limits(512), Capabilities(chat=False, completion=False, embedding=True))
    assert msgspec.json.decode(model_object(ModelStatus(card), [], ListStyle()))["type"] == "embeddings"
