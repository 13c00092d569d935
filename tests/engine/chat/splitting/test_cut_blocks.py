"""What a length limit leaves of markup: no marker in the text, and no call that looks whole."""

from __future__ import annotations

import json
import re

import pytest

from cortex.engine.chat.formats.families import FAMILIES, family_by_name
from cortex.engine.chat.formats.json_families import HERMES
from tests.engine.chat.formats.examples import EXAMPLES, TOOLS
from tests.engine.chat.formats.test_formats import plan_for
from tests.engine.chat.splitting.harness import THINK, make_plan, split
from tests.engine.chat.splitting.test_splitter import AS_TEXT, AS_TOKENS, CALL

MOST_LEFT = 4
"""Characters of a marker that may be text: an answer can be cut behind `a <`."""
BARE = {"llama3": 28, "xlam": 9, "pythonic": 1}
"""Characters of a call that begins like an answer, until it differs from one: `{"type": "function`."""


def visible(segments: list[tuple[str, ...]]) -> str:
    return re.sub(r"\s", "", "".join(segment[1] for segment in segments if "call" not in segment[0]))


@pytest.mark.parametrize("tokens", [True, False], ids=["tokens", "text"])
@pytest.mark.parametrize("family", [family.name for family in FAMILIES])
def test_no_cut_leaks_markup_or_completes_a_call(family: str, tokens: bool) -> None:
    plan = plan_for(family, tokens=tokens)
    for _, text, expected in (example for example in EXAMPLES if example[0] == family):
        whole = [segment for segment in expected if segment[0] == "call"]
        if not whole:
            continue
        units = plan.markers.vocabulary.tokenize(text)
        for end in range(1, len(units)):
            cut = "".join(plan.markers.vocabulary.piece(unit).decode() for unit in units[:end])
            found = split(plan, cut, cut=True).segments
            told, shown = visible(expected), visible(found)
            left = len(shown) - max(size for size in range(len(shown) + 1) if told.startswith(shown[:size]))
            allowed = BARE.get(family, MOST_LEFT) if family not in ("harmony", "atem") or tokens else len("<|end|>")
            assert left <= allowed, (cut, found)
            calls = [segment for segment in found if segment[0] == "call"]
            assert [(*call[:2], json.loads(call[2])) for call in calls] == whole[: len(calls)], cut


@pytest.mark.parametrize(
    "cut",
    [
        "<tool_call>",
        "<tool_call>\n{",
        '<tool_call>\n{"name": "f',
        '<tool_call>\n{"name": "f", "arguments": ',
        '<tool_call>\n{"arguments": {"a": 1}, "na',
    ],
)
@pytest.mark.parametrize("vocabulary", [AS_TOKENS, AS_TEXT], ids=["tokens", "text"])
def test_a_cut_before_the_arguments_leaves_nothing_of_the_block(cut: str, vocabulary: object) -> None:
    plan = make_plan(HERMES, reasoning=THINK, vocabulary=vocabulary)  # type: ignore[arg-type]
    assert split(plan, f"So:{cut}", cut=True).segments == [("text", "So:")]
    assert split(plan, f"<think>So:{cut}", cut=True).segments == [("reasoning", "So:")]


def test_the_beginning_of_a_marker_is_left_out_after_a_cut() -> None:
    plan = make_plan(HERMES, reasoning=THINK, vocabulary=AS_TEXT)
    assert split(plan, "So:<tool_", cut=True).segments == [("text", "So:")]
    assert split(plan, "<think>So:</thin", cut=True).segments == [("reasoning", "So:")]
    assert split(plan, "So:<tool_").segments == [("text", "So:<tool_")]


def test_whole_calls_before_a_cut_one_stay_whole() -> None:
    plan = make_plan(HERMES, vocabulary=AS_TOKENS)
    segments = split(plan, f'{CALL}\n<tool_call>\n{{"name": "f", "arguments": {{"b": [1, ', cut=True).segments
    assert segments == [("call", "f", '{"a": 1}'), ("cut call", "f", '{"b": [1, ')]
    form = family_by_name("mistral")
    assert form is not None
    block = '[TOOL_CALLS][{"name": "f2", "arguments": {"a": 1}}, {"name": "f2", "argu'
    segments = split(make_plan(form, tools=TOOLS, vocabulary=AS_TEXT), block, cut=True).segments
    assert segments == [("call", "f2", '{"a": 1}')]


def test_a_call_that_only_lacks_its_closing_markup_is_whole() -> None:
    plan = make_plan(HERMES, vocabulary=AS_TOKENS)
    assert split(plan, CALL.removesuffix("}\n</tool_call>"), cut=True).segments == [("call", "f", '{"a": 1}')]


@pytest.mark.parametrize("text", ["if a <", "x < y and y <t", "[1, 2", '{"answer": 4', "The <tool_call> tag, as in"])
@pytest.mark.parametrize("family", ["hermes", "llama3", "pythonic", "xlam"])
def test_text_that_is_cut_keeps_its_end(family: str, text: str) -> None:
    form = family_by_name(family)
    assert form is not None
    assert split(make_plan(form, tools=TOOLS, vocabulary=AS_TEXT), text, cut=True).segments == [("text", text)]


def test_raw_code_is_no_call_when_it_was_cut() -> None:
    form = family_by_name("llama3")
    assert form is not None
    tools = [tool for tool in TOOLS if tool.name == "f2"]
    tools[0] = type(tools[0])(name="python", parameters={"type": "object", "properties": {"code": {"type": "string"}}})
    plan = make_plan(form, tools=tools, vocabulary=AS_TEXT)
    assert split(plan, "<|python_tag|>rm(", cut=True).segments == [("cut call", "python", '{"code": "rm(')]
    assert split(plan, "<|python_tag|>rm()").segments == [("call", "python", '{"code": "rm()"}')]


@pytest.mark.parametrize("value", ["[" * 1500, "9" * 4400, '{"a":' * 1500])
@pytest.mark.parametrize("family", [family.name for family in FAMILIES])
@pytest.mark.parametrize("cut", [True, False], ids=["cut", "ended"])
def test_deep_nesting_and_long_numbers_end_in_text_or_a_call_and_never_in_an_error(
    family: str, value: str, cut: bool
) -> None:
    """Whatever comes out, no other request of the model may notice."""
    plan = plan_for(family, tokens=True)
    texts = [text for name, text, _ in EXAMPLES if name == family]
    for text in [*texts[:3], HELD]:
        for place in {text.find(mark) + 1 for mark in ("1", "{", '"', "(", ">")} - {0}:
            written = text[:place] + value + text[place:]
            split(plan, written, cut=cut, sizes=[len(written)])


HELD = '<tool_call>{"name": "f2", "arguments": "1"}'
"""Arguments that are read only when their string is complete."""
