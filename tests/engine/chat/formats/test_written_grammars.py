"""The grammar of a format allows what the templates of its models write."""

from __future__ import annotations

from functools import cache

import pytest
from llguidance import LLMatcher

from cortex.engine.chat.model import ChatModel
from cortex.wire.inference import Reasoning, Tool, ToolChoice
from tests.engine.chat.byte_vocabulary import ByteVocabulary
from tests.engine.chat.formats.test_families import TOOLS, TURNS, written
from tests.engine.chat.histories import chat_request, said
from tests.engine.chat.marker_vocabulary import END_MARKERS, markers_in
from tests.templates import template, template_names


class EndingVocabulary(ByteVocabulary):
    """A ByteVocabulary that knows the end tokens of real models."""

    def is_end(self, token: int) -> bool:
        return super().is_end(token) or self.piece(token).decode("utf-8", "ignore") in END_MARKERS


@cache
def model(name: str, as_tokens: bool) -> ChatModel:
    source = template(name)
    if not as_tokens:
        return ChatModel.from_gguf(source, {}, EndingVocabulary(list(END_MARKERS)))
    # Hunyuan 3 formats its markers, so that they are only in what it renders.
    texts = source + (model(name, False).detected.example or "")
    # MiniMax M3 has no token for `<item>`, which its template writes around the elements of lists.
    markers = [marker for marker in markers_in(texts) if marker not in ("<item>", "</item>")]
    return ChatModel.from_gguf(source, {}, EndingVocabulary(list(dict.fromkeys([*END_MARKERS, *markers]))))


def answers(chat: ChatModel, name: str) -> dict[str, str]:
    """The turns of calls as written, without reasoning."""
    reasoning, form = chat.detected.reasoning, chat.detected.tool_format
    framed = form is not None and form.frames  # then a header comes first
    found = {}
    for title, turn in TURNS.items():
        output = written(chat, turn) if turn.calls and not turn.text and not turn.thought else None
        if output is not None:
            _, closed, rest = output.partition(reasoning.close) if reasoning and not framed else ("", "", "")
            found[title] = output.rstrip() if framed else (rest if closed else output).strip()
    return found


def allows(chat: ChatModel, lark: str, text: str) -> bool:
    vocabulary = chat.vocabulary
    assert isinstance(vocabulary, EndingVocabulary)
    matcher = LLMatcher(vocabulary.for_llguidance(), LLMatcher.grammar_from_lark(lark))
    assert not matcher.is_error(), matcher.get_error()
    tokens = vocabulary.tokenize(text)
    return matcher.try_consume_tokens(tokens) == len(tokens) and bool(matcher.is_accepting())


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
    stopped = {title for title, text in answers(chat, name).items() if not allows(chat, spec.lark, text)}
    assert not stopped
