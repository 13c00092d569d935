"""The end of a turn is what the template puts there, where the vocabulary doesn't know it."""

from __future__ import annotations

import pytest

from cortex.engine.chat.detection.turn_end import TurnEnd
from cortex.engine.chat.model import ChatModel
from tests.engine.chat.histories import chat_request, said
from tests.engine.chat.marker_vocabulary import END_MARKERS, MarkerVocabulary, markers_in
from tests.templates import template, template_names

KNOWN = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "</s>", "<｜end▁of▁sentence｜>", "<|END_OF_TURN_TOKEN|>")


def chat(source: str | None, *, tokens: bool = True, ends: tuple[str, ...] = ()) -> ChatModel:
    markers = [*markers_in(source or ""), "<|im_start|>", "<|im_end|>"] if tokens else []
    return ChatModel.from_gguf(source, {}, MarkerVocabulary(markers, ends=ends))


@pytest.mark.parametrize("name", [name for name in template_names() if "im_end" in template(name)])
def test_chatml_ends_at_its_own_marker(name: str) -> None:
    model = chat(template(name))
    [token] = model.vocabulary.tokenize("<|im_end|>")
    assert model.detected.turn_end == TurnEnd("<|im_end|>", token)
    assert model.end_tokens == {token}
    assert model.prepare(chat_request([said("user", "Ask")])).stop == []


@pytest.mark.parametrize("name", template_names())
def test_nothing_is_added_where_the_vocabulary_knows_the_end(name: str) -> None:
    source = template(name)
    if not any(end in source for end in KNOWN):
        return
    assert chat(source, ends=END_MARKERS).end_tokens == frozenset()


def test_an_end_that_is_no_token_is_a_stop_string() -> None:
    model = chat(None, tokens=False)
    assert model.end_tokens == frozenset()
    assert model.prepare(chat_request([said("user", "Ask")])).stop == ["<|im_end|>"]


def test_a_template_without_markers_ends_where_the_next_turn_begins() -> None:
    source = (
        "{% for message in messages %}{{ message.role | title }}: {{ message.content }}\n\n{% endfor %}"
        "{% if add_generation_prompt %}Assistant:{% endif %}"
    )
    assert chat(source).prepare(chat_request([said("user", "Ask")])).stop == ["\nUser:"]


def test_blank_lines_between_turns_end_nothing() -> None:
    source = "{% for message in messages %}{{ message.content }}\n\n{% endfor %}"
    assert chat(source).prepare(chat_request([said("user", "Ask")])).stop == []


@pytest.mark.parametrize("name", ["openai-gpt-oss-120b.jinja", "muse-glimmer.jinja"])
def test_a_marker_that_also_ends_reasoning_ends_no_turn(name: str) -> None:
    assert chat(template(name)).detected.turn_end is None
