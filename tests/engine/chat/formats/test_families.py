"""Assistant turns rendered by each real template, parsed by the model's own splitter.

The template shows what its model was trained to write, so it writes the turns. What it leaves out (reasoning, text
before a call), the model isn't expected to write.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest

from cortex.engine.chat.detection.probe_messages import assistant, call, declaration
from cortex.engine.chat.detection.probe_renderer import ProbeRenderer
from cortex.engine.chat.model import ChatModel
from cortex.engine.chat.templates.template import Message
from cortex.engine.chat.types import Delta, Prepared
from cortex.wire.inference import Reasoning, Tool
from tests.engine.chat.histories import chat_request, said
from tests.engine.chat.marker_vocabulary import CoarseVocabulary, MarkerVocabulary, markers_in
from tests.engine.chat.splitting.harness import Outcome, merged
from tests.templates import template, template_names

THOUGHT = "First I think.\nThen I know."
ANSWER = "Well, 2 < 3 is true.\n\nAnd that's it: done."
TOOLS = {
    "set_alarm": {"label": "string", "hour": "integer"},
    "no_arguments": {},
    "write": {"text": "string", "options": "object", "tags": "array"},
}
OPTIONS = {
    "type": "object",
    "properties": {
        "deep": {
            "type": "object",
            "properties": {
                "list": {"type": "array", "items": {"type": ["number", "boolean", "null"]}},
                "empty": {"type": "object"},
            },
        },
        "q": {"type": "string"},
    },
}
"""What `write` says of its options: MiniMax M3's tags don't tell an empty object from an empty text."""
ALARM = {"label": "wake up", "hour": 7}
HARD = {
    "text": 'Zoë said: "it\'s <b>5 & 6</b>" \\ once\n\ttwice 😀',
    "options": {"deep": {"list": [1, 2.5, True, None], "empty": {}}, "q": 'a "b"'},
    "tags": ["x", "é"],
}


@dataclass(frozen=True)
class Turn:
    text: str = ""
    thought: str = ""
    calls: Sequence[tuple[str, dict[str, Any]]] = field(default=())


TURNS = {
    "plain": Turn(ANSWER),
    "thought and text": Turn(ANSWER, THOUGHT),
    "one call": Turn(calls=[("set_alarm", ALARM)]),
    "two calls": Turn(calls=[("set_alarm", ALARM), ("write", {"text": "hi", "options": {}, "tags": []})]),
    "thought and call": Turn("", THOUGHT, [("set_alarm", ALARM)]),
    "no arguments": Turn(calls=[("no_arguments", {})]),
    "hard arguments": Turn(calls=[("write", HARD)]),
    "text and call": Turn("I will set it.", calls=[("set_alarm", ALARM)]),
}


@cache
def model(name: str, vocabulary: type[MarkerVocabulary] = MarkerVocabulary) -> ChatModel:
    source = template(name)
    return ChatModel.from_gguf(source, {}, vocabulary(markers_in(source)))


@cache
def shown(name: str, vocabulary: type[MarkerVocabulary] = MarkerVocabulary) -> dict[str, str]:
    """The turns that the template shows, by their titles, as the model writes them."""
    chat = model(name, vocabulary)
    return {title: output for title, turn in TURNS.items() if (output := written(chat, turn)) is not None}


def written(chat: ChatModel, turn: Turn) -> str | None:
    """The turn as the model writes it, or None where the template shows no such turn."""
    capabilities = chat.with_tools.capabilities
    calls = [
        call(arguments if capabilities.object_arguments else json.dumps(arguments), name, f"aB3dE6gH{number}")
        for number, (name, arguments) in enumerate(turn.calls)
    ]
    if (calls and not capabilities.tool_calls) or (len(calls) > 1 and not capabilities.parallel_calls):
        return None
    more: Message = {"tool_calls": calls} if calls else {}
    if turn.thought and capabilities.reasoning_key:
        more |= {capabilities.reasoning_key: turn.thought}
    renderer = ProbeRenderer(chat.with_tools.template, capabilities, chat.vocabulary)
    content = capabilities.empty_content if calls and not turn.text else turn.text
    tools = [declaration(name, **properties) for name, properties in TOOLS.items()]
    output = renderer.output(
        assistant(content, **more), **({capabilities.tools_variable: tools} if capabilities.tools else {})
    )
    return output if output is not None and all(name in output for name, _ in turn.calls) else None


def prepared(chat: ChatModel) -> Prepared:
    tools = [
        Tool(name, "A tool.", declaration(name, **properties)["function"]["parameters"])
        for name, properties in TOOLS.items()
    ]
    tools[-1].parameters["properties"]["options"] |= OPTIONS
    return chat.prepare(chat_request([said("user", "Ask")], *tools, reasoning=Reasoning(mode="on")))


def split(chat: ChatModel, output: str, ready: Prepared) -> Outcome:
    reasoning = chat.detected.reasoning
    splitter = ready.make_splitter(0)
    if reasoning and splitter.in_reasoning and reasoning.close not in output:
        output = f"{reasoning.close}\n\n{output}"  # the prompt has opened reasoning that this turn doesn't have
    decoder = codecs.getincrementaldecoder("utf-8")()
    deltas: list[Delta] = []
    for token in chat.vocabulary.tokenize(output, special=True):
        deltas += splitter.feed(token, decoder.decode(chat.vocabulary.piece(token)))
    return merged([*deltas, *splitter.finish(cut=False)])


@pytest.mark.parametrize("vocabulary", [MarkerVocabulary, CoarseVocabulary])
@pytest.mark.parametrize("name", template_names())
def test_what_a_template_writes_is_read_back(name: str, vocabulary: type[MarkerVocabulary]) -> None:
    chat, outputs = model(name, vocabulary), shown(name, vocabulary)
    ready, wrong = prepared(chat), {}
    for title, output in outputs.items():
        expected, found = as_rendered(chat, TURNS[title], output), split(chat, output, ready)
        told = Turn(
            found.text.strip(), found.reasoning.strip(), [(name, json.loads(text)) for name, text in found.calls]
        )
        if told != expected:
            wrong[title] = (told, expected)
    assert not wrong


def as_rendered(chat: ChatModel, turn: Turn, output: str) -> Turn:
    """`turn` without what its template left out; text before a call is reasoning where the template puts it there."""
    reasoning = chat.detected.reasoning
    text, thought = turn.text if turn.text in output else "", turn.thought if turn.thought in output else ""
    if reasoning and text and reasoning.open + text in output:
        return Turn("", text, list(turn.calls))
    return Turn(text, thought, list(turn.calls))


def test_most_templates_show_most_turns() -> None:
    """The test above has turns to parse."""
    assert sum(len(shown(name)) for name in template_names()) > 450
