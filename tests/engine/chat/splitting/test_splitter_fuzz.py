"""For any output: no character is lost or repeated, and the arguments of a call are always JSON."""

from __future__ import annotations

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from cortex.engine.chat.formats.base import ToolFormat
from cortex.engine.chat.formats.families import FAMILIES, family_by_name
from cortex.engine.chat.formats.json_families import HERMES
from cortex.wire.inference import Tool
from tests.engine.chat.fake_vocabulary import FakeVocabulary
from tests.engine.chat.formats.examples import EXAMPLES, TOOLS
from tests.engine.chat.splitting.harness import THINK, make_plan, split
from tests.engine.chat.splitting.test_splitter import AS_TEXT, AS_TOKENS, CALL, MARKS

PIECES = st.sampled_from(
    [
        *MARKS,
        CALL,
        '{"name": "f", "arguments": {',
        '"a": "b"',
        "}}",
        "{",
        "[",
        "]",
        "f(a=1)",
        "Hello ",
        "\n",
        '"',
        "\\",
        "é",
    ]
)


@given(pieces=st.lists(PIECES, max_size=12), tokens=st.booleans(), starts=st.booleans())
def test_no_character_is_lost_and_arguments_are_valid(pieces: list[str], tokens: bool, starts: bool) -> None:
    text = "".join(pieces)
    plan = make_plan(HERMES, reasoning=THINK, vocabulary=AS_TOKENS if tokens else AS_TEXT, starts_in_reasoning=starts)
    outcome = split(plan, text)
    assert outcome.segments == split(plan, text, sizes=[len(text) + 1]).segments
    for _, arguments in outcome.calls:
        json.loads(arguments)
    if not outcome.calls:
        kept = "".join(segment[1] for segment in outcome.segments)
        assert _letters(kept) == _letters(text) or _without_thinking(kept) == _without_thinking(text)


def _letters(text: str) -> str:
    return re.sub(r"\s", "", text)


def _without_thinking(text: str) -> str:
    return _letters(text).replace("<think>", "").replace("</think>", "")


_FRAGMENTS = sorted({piece for _, text, _ in EXAMPLES for piece in re.findall(r"<[^<>]*>|\[[A-Z_]+\]|\W|\w+", text)})


@given(
    form=st.sampled_from(FAMILIES),
    pieces=st.lists(st.sampled_from(_FRAGMENTS), max_size=30),
    tokens=st.booleans(),
    sizes=st.lists(st.integers(1, 9), min_size=1),
)
def test_no_family_chokes_on_anything(form: object, pieces: list[str], tokens: bool, sizes: list[int]) -> None:
    assert form in FAMILIES
    family = family_by_name(form.name)  # type: ignore[attr-defined]
    assert family is not None
    text = "".join(pieces)
    vocabulary = FakeVocabulary(control=list(dict.fromkeys([*family.special_tokens, *MARKS[:2]])) if tokens else ())
    plan = make_plan(family, tools=TOOLS, reasoning=THINK, vocabulary=vocabulary)
    outcome = split(plan, text)
    assert outcome.segments == split(plan, text, sizes=sizes).segments
    kept = "".join(segment[1] for segment in outcome.segments if segment[0] != "call")
    assert _is_within(_letters(kept), _letters(text))
    for _, arguments in outcome.calls:
        assert isinstance(json.loads(arguments), dict)


UNKNOWN = [Tool(name="never_written", parameters={"type": "object"})]
NOISE = [*_FRAGMENTS, "<tool_call>", "</think>", "<think>", "😀", "é"]


def _as_fed(family: ToolFormat, tokens: bool) -> FakeVocabulary:
    return FakeVocabulary(control=list(dict.fromkeys([*family.special_tokens, *MARKS[:2]])) if tokens else ())


def _unframed(text: str, family: ToolFormat) -> str:
    """`text` without blanks and without the marks that the splitter may take for the ends of thinking or an answer."""
    for mark in sorted({THINK.open, THINK.close, *(end for pair in family.wrappers for end in pair)}, key=len):
        text = text.replace(mark, "")
    return _letters(text)


def _is_within(kept: str, text: str) -> bool:
    """Whether the characters of `kept` all stand in `text`, in this order."""
    rest = iter(text)
    return all(char in rest for char in kept)


@given(
    form=st.sampled_from([family for family in FAMILIES if not family.frames]),
    pieces=st.lists(st.sampled_from(NOISE), max_size=30),
    tokens=st.booleans(),
    starts=st.booleans(),
)
def test_what_is_no_call_comes_out_verbatim_in_every_family(
    form: ToolFormat, pieces: list[str], tokens: bool, starts: bool
) -> None:
    """Blocks whose tools were not offered, broken ones, lone marks: all of it is text, or part of the reasoning."""
    plan = make_plan(form, tools=UNKNOWN, reasoning=THINK, vocabulary=_as_fed(form, tokens), starts_in_reasoning=starts)
    text = "".join(pieces)
    outcome = split(plan, text)
    assert outcome.calls == []
    assert _unframed("".join(segment[1] for segment in outcome.segments), form) == _unframed(text, form)


@given(
    example=st.sampled_from(EXAMPLES),
    before=st.lists(st.sampled_from(["Hello ", "x < y", "{", "é\n", "1."]), max_size=4),
    after=st.lists(st.sampled_from([" world", "> z", "}", "\n\n", "2,"]), max_size=4),
    tokens=st.booleans(),
)
def test_nothing_beside_calls_is_lost_said_twice_or_made_up(
    example: tuple[str, str, list[tuple[object, ...]]], before: list[str], after: list[str], tokens: bool
) -> None:
    family = family_by_name(example[0])
    assert family is not None
    text = "".join([*before, example[1], *after])
    outcome = split(make_plan(family, tools=TOOLS, reasoning=THINK, vocabulary=_as_fed(family, tokens)), text)
    kept = _letters("".join(segment[1] for segment in outcome.segments if segment[0] != "call"))
    assert _is_within(kept, _letters(text))
    calls = [segment for segment in example[2] if segment[0] == "call"]
    if len(outcome.calls) == len(calls) and not family.frames:
        said = [str(segment[1]) for segment in example[2] if segment[0] != "call"]
        assert _unframed(kept, family) == _unframed("".join([*before, *said, *after]), family)
    for _, arguments in outcome.calls:
        assert isinstance(json.loads(arguments), dict)
