"""A grammar never fights its model: what a template writes, the grammar for its format allows."""

from __future__ import annotations

from functools import cache

import pytest
from llguidance import LLMatcher

from cortex.engine.chat.model import ChatModel
from cortex.wire.inference import Reasoning, Tool, ToolChoice
from tests.engine.chat.byte_vocabulary import ByteVocabulary
from tests.engine.chat.histories import chat_request, said
from tests.engine.chat.marker_vocabulary import END_MARKERS, markers_in
from tests.engine.chat.test_families import TOOLS, TURNS, UNCLEAR, written
from tests.templates import template, template_names


class EndingVocabulary(ByteVocabulary):
    """A ByteVocabulary that knows the end tokens of real models."""

    def is_end(self, token: int) -> bool:
        return super().is_end(token) or self.piece(token).decode("utf-8", "ignore") in END_MARKERS


@cache
def model(name: str, as_tokens: bool) -> ChatModel:
    source = template(name)
    markers = markers_in(source) if as_tokens else [end for end in END_MARKERS if end in source]
    return ChatModel.from_gguf(source, {}, EndingVocabulary(list(dict.fromkeys(markers))))


def answers(chat: ChatModel, name: str) -> dict[str, str]:
    """The turns of calls as written, thinking left out."""
    reasoning = chat.findings.reasoning
    found = {}
    for title, turn in TURNS.items():
        output = written(chat, turn) if turn.calls and not turn.text and not turn.thought else None
        if output is not None and title not in UNCLEAR.get(name, ()):
            thought, closed, rest = output.partition(reasoning.close) if reasoning else ("", "", "")
            found[title] = (rest if closed else output).strip()
    return found


def allows(chat: ChatModel, lark: str, text: str) -> str | None:
    """None if `lark` allows `text`, else how far it does."""
    vocabulary = chat.vocabulary
    assert isinstance(vocabulary, EndingVocabulary)
    matcher = LLMatcher(vocabulary.for_llguidance(), LLMatcher.grammar_from_lark(lark))
    assert not matcher.is_error(), matcher.get_error()
    tokens = vocabulary.tokenize(text)
    taken = matcher.try_consume_tokens(tokens)
    if taken == len(tokens) and matcher.is_accepting():
        return None
    return b"".join(vocabulary.piece(token) for token in tokens[:taken]).decode("utf-8", "replace")


@pytest.mark.parametrize("as_tokens", [True, False])
@pytest.mark.parametrize("name", template_names())
def test_the_grammar_of_required_calls_allows_what_the_template_writes(name: str, as_tokens: bool) -> None:
    chat = model(name, as_tokens)
    tools = [
        Tool(tool, "", {"type": "object", "properties": {key: {"type": kind} for key, kind in keys.items()}})
        for tool, keys in TOOLS.items()
    ]
    request = chat_request(
        [said("user", "Ask")], *tools, tool_choice=ToolChoice("required"), reasoning=Reasoning(mode="off")
    )
    spec = chat.prepare(request).constraint
    assert spec is not None
    stopped = {title: (at, text) for title, text in answers(chat, name).items() if (at := allows(chat, spec.lark, text)) is not None}
    assert not stopped
