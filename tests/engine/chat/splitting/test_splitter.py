"""Splitting into reasoning, text and calls: what opens and closes them, what stays text, when calls are announced."""

from __future__ import annotations

import re

import pytest

from cortex.engine.chat.formats.families import family_by_name
from cortex.engine.chat.formats.json_families import HERMES
from cortex.engine.chat.splitting.markers import ReasoningFormat
from cortex.engine.chat.splitting.splitter import MessageSplitter, SplitPlan
from cortex.wire.events import TextDelta, ToolCallArguments, ToolCallStart
from cortex.wire.inference import Tool
from tests.engine.chat.fake_vocabulary import FakeVocabulary
from tests.engine.chat.splitting.harness import ANYTHING, THINK, make_plan, merged, split

MARKS = ["<think>", "</think>", "<tool_call>", "</tool_call>"]
AS_TOKENS = FakeVocabulary(defined=MARKS)
AS_CONTROL = FakeVocabulary(control=MARKS)
AS_TEXT = FakeVocabulary()
CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'


def spelled(plan: SplitPlan, text: str) -> list[tuple[str, ...]]:
    """What becomes of `text` when the model writes every marker with ordinary tokens."""
    splitter = MessageSplitter(plan)
    deltas = [delta for char in text for delta in splitter.feed(ord(char), char)]
    return merged([*deltas, *splitter.finish(cut=False)]).segments


# ---- reasoning


@pytest.mark.parametrize("vocabulary", [AS_TOKENS, AS_CONTROL, AS_TEXT], ids=["defined", "control", "text"])
@pytest.mark.parametrize("starts_in_reasoning", [False, True])
def test_reasoning_is_opened_by_the_model_or_by_the_prompt(
    vocabulary: FakeVocabulary, starts_in_reasoning: bool
) -> None:
    plan = make_plan(reasoning=THINK, vocabulary=vocabulary, starts_in_reasoning=starts_in_reasoning)
    opening = "" if starts_in_reasoning else "<think>"
    outcome = split(plan, f"{opening}\nFirst.\n\nSecond.\n</think>\n\nAnswer.\n")
    assert outcome.segments == [("reasoning", "First.\n\nSecond."), ("text", "Answer.\n")]


def test_a_model_may_open_again_what_the_prompt_has_opened() -> None:
    plan = make_plan(reasoning=THINK, vocabulary=AS_TEXT, starts_in_reasoning=True)
    assert split(plan, "<think>\nHm.</think>Yes").segments == [("reasoning", "Hm."), ("text", "Yes")]


def test_reasoning_that_is_never_closed_is_all_reasoning() -> None:
    plan = make_plan(reasoning=THINK, vocabulary=AS_TOKENS, starts_in_reasoning=True)
    assert split(plan, "On and on.").segments == [("reasoning", "On and on.")]


def test_reasoning_alone_leaves_no_empty_text_segment() -> None:
    plan = make_plan(HERMES, reasoning=THINK, vocabulary=AS_TOKENS)
    assert split(plan, "<think>Hm.</think>\n\n").segments == [("reasoning", "Hm.")]


def test_empty_reasoning_is_no_segment() -> None:
    plan = make_plan(reasoning=THINK, vocabulary=AS_TOKENS)
    assert split(plan, "<think>\n\n</think>\n\nYes").segments == [("text", "Yes")]


@pytest.mark.parametrize("vocabulary", [AS_TOKENS, AS_TEXT], ids=["tokens", "text"])
def test_only_the_first_close_counts(vocabulary: FakeVocabulary) -> None:
    plan = make_plan(reasoning=THINK, vocabulary=vocabulary)
    outcome = split(plan, "<think>So.</think>Write </think> to close.")
    assert outcome.segments == [("reasoning", "So."), ("text", "Write </think> to close.")]


def test_a_mention_in_the_answer_does_not_open_reasoning() -> None:
    mention = "The tags <think> and </think> mark thinking."
    assert spelled(make_plan(reasoning=THINK, vocabulary=AS_TOKENS), mention) == [("text", mention)]
    assert spelled(make_plan(reasoning=THINK, vocabulary=AS_TEXT), mention) == [("text", mention)]


def test_a_close_that_is_only_spelled_does_not_end_reasoning_where_it_is_a_token() -> None:
    plan = make_plan(reasoning=THINK, vocabulary=AS_TOKENS, starts_in_reasoning=True)
    assert spelled(plan, "I write </think> here") == [("reasoning", "I write </think> here")]


def test_markers_count_by_id_only_if_both_ends_are_tokens() -> None:
    plan = make_plan(reasoning=THINK, vocabulary=FakeVocabulary(defined=["<think>"]))
    assert spelled(plan, "<think>So.</think>Yes") == [("reasoning", "So."), ("text", "Yes")]


def test_text_may_come_before_and_between_reasoning_where_the_opener_is_a_token() -> None:
    channels = ReasoningFormat("thought", "<|channel>thought", "<channel|>")
    plan = make_plan(reasoning=channels, vocabulary=FakeVocabulary(defined=["<|channel>", "<channel|>"]))
    outcome = split(plan, "One.<|channel>thought\nHm.<channel|>Two.<|channel>thought\nSo.<channel|>Three.")
    assert outcome.segments == [
        ("text", "One."),
        ("reasoning", "Hm."),
        ("text", "Two."),
        ("reasoning", "So."),
        ("text", "Three."),
    ]


def test_the_tokens_that_end_reasoning_by_force_end_it() -> None:
    plan = make_plan(reasoning=THINK, vocabulary=AS_TOKENS, starts_in_reasoning=True)
    splitter = MessageSplitter(plan)
    splitter.feed(ord("H"), "H")
    assert splitter.in_reasoning
    forced = [splitter.feed(token, AS_TOKENS.piece(token).decode()) for token in splitter.end_reasoning()]
    assert not any(forced)
    assert not splitter.in_reasoning
    assert splitter.end_reasoning() == []


def test_wrappers_around_the_answer_are_dropped() -> None:
    wrapped = ReasoningFormat("think", "<think>", "</think>", wrappers=(("<response>", "</response>"),))
    plan = make_plan(reasoning=wrapped, vocabulary=AS_TEXT)
    outcome = split(plan, "<think>Hm.</think><response>A <response> tag.</response>")
    assert outcome.segments == [("reasoning", "Hm."), ("text", "A <response> tag.")]


# ---- tool calls and reasoning


@pytest.mark.parametrize("vocabulary", [AS_TOKENS, AS_TEXT], ids=["tokens", "text"])
def test_a_tool_call_in_open_reasoning_closes_it(vocabulary: FakeVocabulary) -> None:
    plan = make_plan(HERMES, reasoning=THINK, vocabulary=vocabulary, starts_in_reasoning=True)
    outcome = split(plan, f"Let me call.\n{CALL}\nDone.")
    assert outcome.segments == [("reasoning", "Let me call."), ("call", "f", '{"a": 1}'), ("text", "Done.")]


@pytest.mark.parametrize("vocabulary", [AS_TOKENS, AS_TEXT], ids=["tokens", "text"])
def test_a_mention_of_a_tool_marker_leaves_reasoning_open(vocabulary: FakeVocabulary) -> None:
    plan = make_plan(HERMES, reasoning=THINK, vocabulary=vocabulary, starts_in_reasoning=True)
    outcome = split(plan, "I could use <tool_call> here. No.</think>Hello")
    assert outcome.segments == [("reasoning", "I could use <tool_call> here. No."), ("text", "Hello")]


# ---- what stays text


def test_a_spelled_tool_marker_stays_text_where_it_is_a_token() -> None:
    assert spelled(make_plan(HERMES, vocabulary=AS_TOKENS), CALL) == [("text", CALL)]


def test_a_spelled_tool_marker_counts_where_there_is_no_token() -> None:
    assert spelled(make_plan(HERMES, vocabulary=AS_TEXT), CALL) == [("call", "f", '{"a": 1}')]


def test_without_tools_nothing_is_parsed() -> None:
    plan = make_plan(HERMES, tools=(), vocabulary=AS_CONTROL)
    outcome = split(plan, f"Look: {CALL}")
    assert outcome.calls == []


@pytest.mark.parametrize(
    "block",
    [
        '<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call>',
        "<tool_call>\nHello\n</tool_call>",
        '<tool_call>\n{"name": "f", "arguments": {"a": }}\n</tool_call>',
        '<tool_call>\n{"name": "f", "arguments": [1]}\n</tool_call>',
        '<tool_call>\n{"name": "ff", "arguments": {}}\n</tool_call>',
        '<tool_call>\n{"name": "f", "argum',
        "<tool_call></tool_call>",
        "<tool_call>",
        "<tool_ca",
    ],
)
@pytest.mark.parametrize("vocabulary", [AS_TOKENS, AS_CONTROL, AS_TEXT], ids=["defined", "control", "text"])
def test_a_block_that_is_no_call_comes_out_verbatim(block: str, vocabulary: FakeVocabulary) -> None:
    outcome = split(make_plan(HERMES, vocabulary=vocabulary), f"Before {block} after")
    assert outcome.segments == [("text", f"Before {block} after")]


@pytest.mark.parametrize(("output", "unparsed"), [(CALL, 0), ("no call", 0), (f"<tool_call>oops{CALL}", 1)])
def test_blocks_that_came_out_as_text_are_counted(output: str, unparsed: int) -> None:
    splitter = MessageSplitter(make_plan(HERMES, vocabulary=AS_TEXT))
    for char in output:
        splitter.feed(ord(char), char)
    splitter.finish(cut=False)
    assert splitter.unparsed_calls == unparsed


def test_a_call_behind_a_broken_block_is_still_found() -> None:
    outcome = split(make_plan(HERMES, vocabulary=AS_TOKENS), f"<tool_call>oops{CALL}")
    assert outcome.segments == [("text", "<tool_call>oops"), ("call", "f", '{"a": 1}')]


def test_control_tokens_that_no_format_knows_never_show() -> None:
    vocabulary = FakeVocabulary(control=["<|weird|>"])
    plan = make_plan(HERMES, vocabulary=vocabulary)
    assert split(plan, "Hel<|weird|>lo").segments == [("text", "Hello")]


def test_a_tool_whose_name_begins_another_is_told_from_it() -> None:
    tools = [Tool(name="get"), Tool(name="get_all")]
    plan = make_plan(HERMES, tools=tools, vocabulary=AS_TOKENS)
    blocks = [f'<tool_call>{{"name": "{name}", "arguments": {{}}}}</tool_call>' for name in ("get_all", "get")]
    assert [name for name, _ in split(plan, "".join(blocks)).calls] == ["get_all", "get"]


def test_text_is_verbatim_but_for_blanks_between_segments() -> None:
    plan = make_plan(HERMES, vocabulary=AS_TOKENS)
    outcome = split(plan, f"\n  First.\n\n{CALL}\n\n{CALL}\n\n Last. \n")
    assert outcome.text == "\n  First.Last. \n"
    assert len(outcome.calls) == 2


# ---- when calls are announced


def long_call(size: int) -> str:
    return '<tool_call>{"name": "f", "arguments": {"text": "' + "x" * size


def test_a_call_is_announced_after_256_characters_of_arguments_and_then_streams() -> None:
    splitter = MessageSplitter(make_plan(HERMES, vocabulary=AS_TEXT))
    announced_at = None
    arguments = ""
    for place, char in enumerate(long_call(400)):
        for delta in splitter.feed(ord(char), char):
            if isinstance(delta, ToolCallStart):
                announced_at = place
            elif isinstance(delta, ToolCallArguments):
                arguments += delta.fragment
    assert announced_at == long_call(0).index('{"text') + 255
    assert arguments == '{"text": "' + "x" * 400


@pytest.mark.parametrize("size", [0, 100, 400])
def test_the_arguments_of_a_cut_call_end_where_the_model_was_cut(size: int) -> None:
    outcome = split(make_plan(HERMES, vocabulary=AS_TEXT), long_call(size), cut=True)
    assert outcome.segments == [("cut call", "f", '{"text": "' + "x" * size)]


def test_a_promised_call_that_breaks_is_not_closed_and_the_rest_is_text() -> None:
    outcome = split(make_plan(HERMES, vocabulary=AS_TEXT), long_call(400) + '" oops}')
    assert outcome.segments == [("cut call", "f", '{"text": "' + "x" * 400 + '" '), ("text", "oops}")]


def test_a_call_that_the_model_itself_breaks_off_early_is_text() -> None:
    outcome = split(make_plan(HERMES, vocabulary=AS_TEXT), long_call(100))
    assert outcome.segments == [("text", long_call(100))]


def test_a_call_whose_closing_marks_are_missing_is_a_call() -> None:
    outcome = split(make_plan(HERMES, vocabulary=AS_TEXT), '<tool_call>{"name": "f", "arguments": {"a": 1}')
    assert outcome.calls == [("f", '{"a": 1}')]


@pytest.mark.parametrize("arguments", ['"{\\"a\\": 1}"', '{"a": 1}'])
def test_arguments_in_a_json_string_are_unwrapped(arguments: str) -> None:
    block = f'<tool_call>{{"name": "f", "arguments": {arguments}}}</tool_call>'
    assert split(make_plan(HERMES, vocabulary=AS_TEXT), block).calls == [("f", '{"a": 1}')]


@pytest.mark.parametrize("arguments", ["null", '""', "{}"])
def test_a_call_without_arguments_has_an_empty_object(arguments: str) -> None:
    block = f'<tool_call>{{"name": "f", "arguments": {arguments}}}</tool_call>'
    assert split(make_plan(HERMES, vocabulary=AS_TEXT), block).calls == [("f", "{}")]


def test_a_marker_token_inside_a_json_string_is_part_of_the_string() -> None:
    block = '<tool_call>{"name": "f", "arguments": {"a": "<think>x</think>"}}</tool_call>'
    outcome = split(make_plan(HERMES, reasoning=THINK, vocabulary=AS_CONTROL), block)
    assert outcome.calls == [("f", '{"a": "<think>x</think>"}')]


def test_ids_are_fresh_and_indices_count() -> None:
    splitter = MessageSplitter(make_plan(HERMES, vocabulary=AS_TEXT))
    deltas = [delta for char in CALL + CALL for delta in splitter.feed(ord(char), char)]
    starts = [delta for delta in deltas if isinstance(delta, ToolCallStart)]
    assert [start.index for start in starts] == [0, 1]
    assert len({start.id for start in starts}) == 2
    assert all(re.fullmatch("call_[a-z0-9]{24}", start.id) for start in starts)


def test_kimis_own_ids_go_through() -> None:
    form = family_by_name("kimi_k2")
    assert form is not None
    block = '<|tool_call_begin|>functions.f:3<|tool_call_argument_begin|>{"a": 1}<|tool_call_end|>'
    splitter = MessageSplitter(make_plan(form, vocabulary=AS_TEXT))
    deltas = [delta for char in block for delta in splitter.feed(ord(char), char)]
    assert deltas[0] == ToolCallStart(0, "functions.f:3", "f")


def test_deltas_carry_their_choice() -> None:
    splitter = MessageSplitter(make_plan(vocabulary=AS_TEXT), 3)
    assert list(splitter.feed(ord("a"), "a")) == [TextDelta("a", choice=3)]


# ---- when the constraint applies


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (None, [False, False, False, False]),
        ("now", [True, True, True, True]),
        ("after_reasoning", [False, True, True, True]),
        ("on_tool_marker", [False, False, True, False]),
    ],
)
def test_the_constraint_governs_from_its_start(start: str | None, expected: list[bool]) -> None:
    base = make_plan(HERMES, reasoning=THINK, vocabulary=AS_TOKENS)
    plan = SplitPlan(base.markers, THINK, HERMES, (ANYTHING,), True, start)  # type: ignore[arg-type]
    splitter = MessageSplitter(plan)
    seen = [splitter.constrained]
    for text in ("Hm.</think>", "<tool_call>", CALL.removeprefix("<tool_call>")):
        for token in AS_TOKENS.tokenize(text):
            splitter.feed(token, AS_TOKENS.piece(token).decode())
        seen.append(splitter.constrained)
    assert seen == expected


def test_a_marker_in_open_reasoning_is_not_forced_to_become_a_call() -> None:
    base = make_plan(HERMES, reasoning=THINK, vocabulary=AS_TOKENS)
    splitter = MessageSplitter(SplitPlan(base.markers, THINK, HERMES, (ANYTHING,), True, "on_tool_marker"))
    [marker] = AS_TOKENS.tokenize("<tool_call>")
    splitter.feed(marker, "<tool_call>")
    assert not splitter.constrained
