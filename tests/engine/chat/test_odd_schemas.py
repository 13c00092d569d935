"""Calls of tools with odd schemas, as each family's template writes them: the grammar accepts them, the parser reads
them back.

A schema that can't be enforced whole is enforced as far as it can be. It never refuses the request, and never forces
another call than the model's.
"""

from __future__ import annotations

import codecs
import json
from typing import Any

import pytest
from llguidance import LLMatcher

from cortex.engine.chat.detection.probe_messages import assistant, call
from cortex.engine.chat.detection.probe_renderer import ProbeRenderer
from cortex.engine.chat.model import ChatModel
from cortex.engine.chat.types import Delta
from cortex.wire.inference import Reasoning, Tool, ToolChoice
from tests.engine.chat.formats.test_written_grammars import EndingVocabulary, model
from tests.engine.chat.histories import chat_request, said
from tests.engine.chat.odd_schemas import ODD_SCHEMAS
from tests.engine.chat.splitting.harness import merged

TEMPLATES = [
    "ByteDance-Seed-OSS",
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use",
    "GLM-4.6",
    "Kimi-K3",
    "LFM2.5-8B-A1B",
    "MiniMax-M2",
    "MiniMax-M3",
    "Qwen-Qwen3-0.6B",
    "Qwen3-Coder",
    "deepseek-ai-DeepSeek-V3.2",
    "google-gemma-4-31B-it",
    "mistralai-Mistral-Nemo-Instruct-2407",
    "openai-gpt-oss-120b",
    "openbmb-MiniCPM5-1B",
    "tencent-Hy3",
]
TOOLS = [Tool(f"tool_{number}", "", schema) for number, (schema, _) in enumerate(ODD_SCHEMAS.values())]


def written(chat: ChatModel, name: str, arguments: dict[str, Any]) -> str:
    """The call as the model writes it after reasoning."""
    capabilities = chat.with_tools.capabilities
    made = call(arguments if capabilities.object_arguments else json.dumps(arguments), name)
    renderer = ProbeRenderer(chat.with_tools.template, capabilities, chat.vocabulary)
    output = renderer.output(assistant(capabilities.empty_content, tool_calls=[made]))
    assert output is not None
    reasoning, form = chat.detected.reasoning, chat.detected.tool_format
    if reasoning is None or (form is not None and form.frames):
        return output.rstrip()
    _, closed, rest = output.partition(reasoning.close)
    return (rest if closed else output).strip()


def stops(matcher: LLMatcher, chat: ChatModel, text: str) -> str | None:
    """Where the grammar stops `text`, None if it accepts it."""
    tokens = chat.vocabulary.tokenize(text)
    matcher.reset()
    taken = matcher.try_consume_tokens(tokens)
    if taken == len(tokens) and matcher.is_accepting():
        return None
    return b"".join(map(chat.vocabulary.piece, tokens[:taken])).decode(errors="replace") + " ⟂"


def matcher_of(chat: ChatModel, lark: str) -> LLMatcher:
    assert isinstance(chat.vocabulary, EndingVocabulary)
    matcher = LLMatcher(chat.vocabulary.for_llguidance(), LLMatcher.grammar_from_lark(lark))
    assert not matcher.is_error(), matcher.get_error()
    return matcher


def read_back(chat: ChatModel, text: str) -> list[tuple[str, Any]]:
    ready = chat.prepare(chat_request([said("user", "Ask")], *TOOLS, reasoning=Reasoning(mode="off")))
    splitter = ready.make_splitter(0)
    deltas: list[Delta] = []
    decoder = codecs.getincrementaldecoder("utf-8")()
    for token in chat.vocabulary.tokenize(text):
        deltas += splitter.feed(token, decoder.decode(chat.vocabulary.piece(token)))
    return [(name, json.loads(arguments)) for name, arguments in merged([*deltas, *splitter.finish(cut=False)]).calls]


@pytest.mark.parametrize("as_tokens", [True, False])
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_call_is_accepted_as_the_model_writes_it_and_read_back(name: str, as_tokens: bool) -> None:
    chat = model(f"{name}.jinja", as_tokens)
    specs = {}
    for choice in ("required", "auto"):
        request = chat_request(
            [said("user", "Ask")], *TOOLS, tool_choice=ToolChoice(choice), reasoning=Reasoning(mode="off")
        )
        specs[choice] = chat.prepare(request).constraint
    assert specs["required"] is not None
    forced = matcher_of(chat, specs["required"].lark)
    form = chat.detected.tool_format
    assert form is not None
    trigger = form.triggers[0].text
    auto = None if specs["auto"] is None else matcher_of(chat, specs["auto"].lark)
    wrong = {}
    for (title, (_, arguments)), tool in zip(ODD_SCHEMAS.items(), TOOLS, strict=True):
        text = written(chat, tool.name, arguments)
        if (stopped := stops(forced, chat, text)) is not None:
            wrong[title] = ("required", stopped, text)
        elif auto is not None and text.startswith(trigger) and stops(auto, chat, text.removeprefix(trigger)):
            wrong[title] = ("auto", stops(auto, chat, text.removeprefix(trigger)), text)
        elif (found := read_back(chat, text)) != [(tool.name, arguments)]:
            wrong[title] = ("read", found, text)
    assert not wrong, "\n".join(f"{title}: {why}" for title, why in wrong.items())
