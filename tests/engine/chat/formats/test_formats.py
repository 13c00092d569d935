"""Every family's examples, however they are cut and whether its markers are tokens or text."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.engine.chat.formats.base import ToolFormat
from cortex.engine.chat.formats.families import FAMILIES, family_by_name
from cortex.engine.chat.splitting.markers import ReasoningFormat, special_tokens_in
from cortex.engine.chat.splitting.splitter import SplitPlan
from tests.engine.chat.fake_vocabulary import FakeVocabulary
from tests.engine.chat.formats.examples import EXAMPLES, TOOLS
from tests.engine.chat.splitting.harness import THINK, Outcome, make_plan, split

CHANNELS = ReasoningFormat(
    "channels",
    "<|channel|>analysis<|message|>",
    "<|end|>",
    answer="<|channel|>final<|message|>",
    next="<|start|>assistant",
)

TO_SELF = ReasoningFormat(
    "to_self", " to=self<|message|>", "<|eom|>", answer=" to=user<|message|>", next="<|start|>assistant"
)

_IDS = [f"{family}-{number}" for number, (family, _, _) in enumerate(EXAMPLES)]


def plan_for(family: str, *, tokens: bool) -> SplitPlan:
    form = family_by_name(family)
    assert form is not None
    atoms = [*dict.fromkeys(form.special_tokens), "<think>", "</think>"] if tokens else []
    reasoning = {"harmony": CHANNELS, "atem": TO_SELF}.get(family, THINK)
    return make_plan(form, tools=TOOLS, reasoning=reasoning, vocabulary=FakeVocabulary(control=atoms))


def parsed(outcome: Outcome) -> list[tuple[Any, ...]]:
    return [(*segment[:2], json.loads(segment[2])) if segment[0] == "call" else segment for segment in outcome.segments]


@pytest.mark.parametrize("tokens", [True, False], ids=["tokens", "text"])
@pytest.mark.parametrize(("family", "text", "expected"), EXAMPLES, ids=_IDS)
def test_an_example_means_the_same_whole_and_one_character_at_a_time(
    family: str, text: str, expected: list[tuple[Any, ...]], tokens: bool
) -> None:
    plan = plan_for(family, tokens=tokens)
    assert parsed(split(plan, text)) == expected
    assert parsed(split(plan, text, sizes=[len(text)])) == expected


@given(example=st.sampled_from(EXAMPLES), tokens=st.booleans(), sizes=st.lists(st.integers(1, 12), min_size=1))
def test_random_cuts_change_nothing(
    example: tuple[str, str, list[tuple[Any, ...]]], tokens: bool, sizes: list[int]
) -> None:
    family, text, expected = example
    assert parsed(split(plan_for(family, tokens=tokens), text, sizes=sizes)) == expected


@given(example=st.sampled_from(EXAMPLES), tokens=st.booleans(), data=st.data())
def test_a_cut_answer_gives_the_same_whole_and_one_character_at_a_time(
    example: tuple[str, str, list[tuple[Any, ...]]], tokens: bool, data: st.DataObject
) -> None:
    family, text, _ = example
    shortened = text[: data.draw(st.integers(0, len(text)))]
    plan = plan_for(family, tokens=tokens)
    outcome = split(plan, shortened)
    assert split(plan, shortened, sizes=[len(text) + 1]).segments == outcome.segments
    assert all(isinstance(json.loads(arguments), dict) for _, arguments in outcome.calls)


def test_every_family_has_an_example_and_a_name_of_its_own() -> None:
    names = [family.name for family in FAMILIES]
    assert len(set(names)) == len(names)
    assert set(names) == {family for family, _, _ in EXAMPLES}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_marker_of_a_family_is_among_its_special_tokens(family: ToolFormat) -> None:
    """Else the grammar asks for the letters of a marker that the model writes as one token."""
    assert is_dataclass(family)
    texts = [value for field in fields(family) if isinstance(value := getattr(family, field.name), str)]
    assert {*special_tokens_in(*texts)} <= {*family.special_tokens}
