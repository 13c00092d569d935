"""Every history of `histories`, rendered by every template: all its words are in the prompt, or it is a 400."""

from __future__ import annotations

from functools import cache

import pytest

from cortex.engine.chat.model import ChatModel
from tests.engine.chat.histories import HISTORIES, WEATHER, chat_request, needles
from tests.engine.chat.marker_vocabulary import MarkerVocabulary, markers_in
from tests.templates import template, template_names

# What these templates leave out by themselves, whatever they are given.
DROPPED = {
    "Mistral-Small-3.2-24B-Instruct-2506.jinja": {("text and a call", "BETA")},
    "mistralai-Mistral-Nemo-Instruct-2407.jinja": {("text and a call", "BETA"), ("no user", "SYS")},
    "Reka-Edge.jinja": {("nested arguments", "ÅLESUND")},  # written as \u00c5
}


@cache
def model(name: str) -> ChatModel:
    source = template(name)
    return ChatModel.from_gguf(source, {}, MarkerVocabulary(markers_in(source)))


@pytest.mark.parametrize("name", template_names())
def test_every_history_renders_with_all_its_words(name: str) -> None:
    missing = set()
    for title, history in HISTORIES.items():
        prompt = model(name).prepare(chat_request(history, WEATHER)).prompt
        missing |= {(title, word) for word in needles(history) if word not in prompt}
    assert missing == DROPPED.get(name, set())


@pytest.mark.parametrize("name", template_names())
def test_tools_reach_every_model(name: str) -> None:
    prompt = model(name).prepare(chat_request(HISTORIES["plain"], WEATHER)).prompt
    assert "get_weather" in prompt
    assert "days" in prompt


# This template moves the system message to the last user turn by itself.
SHIFTING = {"mistralai-Mistral-Nemo-Instruct-2407.jinja"}


@pytest.mark.parametrize("name", sorted(set(template_names()) - SHIFTING))
def test_a_growing_conversation_keeps_its_beginning(name: str) -> None:
    """The prompt of the next turn begins like this one's, except for its last turn."""
    history = [*HISTORIES["system and turns"], *HISTORIES["system in the middle"][1:]]
    prompts = [model(name).prepare(chat_request(history[:end])).prompt for end in (2, 4, 7)]
    alpha = prompts[0].index("ALPHA") + len("ALPHA")
    assert prompts[1].startswith(prompts[0][:alpha])
    gamma = prompts[1].index("GAMMA") + len("GAMMA")
    assert prompts[2].startswith(prompts[1][:gamma])
