"""Bugs that other servers had with markup in the output; each test is named after what this one promises instead."""

from __future__ import annotations

import pytest

from cortex.engine.chat.formats import by_name
from cortex.engine.chat.splitter import MessageSplitter, SplitPlan
from cortex.engine.generation import Choice, Job
from cortex.wire.events import ReasoningDelta, TextDelta
from cortex.wire.inference import InferenceRequest, Sampling
from tests.engine.chat.fake_vocabulary import FakeVocabulary
from tests.engine.chat.splitting import THINK, make_plan, merged, split

CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'


def hermes(*, tokens: bool, thinking: bool = False) -> SplitPlan:
    form = by_name("hermes")
    assert form is not None
    vocabulary = FakeVocabulary(control=[*form.atoms, "<think>", "</think>"] if tokens else [])
    return make_plan(form, reasoning=THINK, vocabulary=vocabulary, starts_in_reasoning=thinking)


BOTH = pytest.mark.parametrize("tokens", [True, False], ids=["tokens", "text"])


@BOTH
@pytest.mark.parametrize(("text", "thinking"), [("<think>hmm", False), ("hmm", True), ("hmm</think>", True)])
def test_thought_that_is_never_closed_stays_thought(text: str, thinking: bool, tokens: bool) -> None:
    """It leaves no text segment, not even an empty one."""
    assert split(hermes(tokens=tokens, thinking=thinking), text).segments == [("reasoning", "hmm")]


@BOTH
def test_a_call_inside_open_thought_closes_it(tokens: bool) -> None:
    outcome = split(hermes(tokens=tokens, thinking=True), f"hmm {CALL}")
    assert outcome.calls == [("f", '{"a": 1}')]
    assert outcome.reasoning.strip() == "hmm"


@pytest.mark.parametrize("mention", ["</think>", "`<think>`", "<think>…</think>"])
def test_a_later_mention_of_the_markers_is_text(mention: str) -> None:
    """Only the first close counts; toggling at each mention would tear the answer apart."""
    outcome = split(hermes(tokens=False, thinking=True), f"hmm</think>The tag {mention} ends a thought.")
    assert outcome.segments == [("reasoning", "hmm"), ("text", f"The tag {mention} ends a thought.")]


def test_a_mention_of_the_call_marker_in_thought_is_thought() -> None:
    outcome = split(hermes(tokens=False, thinking=True), "I could write <tool_call> here.</think>No.")
    assert outcome.segments == [("reasoning", "I could write <tool_call> here."), ("text", "No.")]


@BOTH
def test_the_words_that_end_a_spent_budget_are_not_shown(tokens: bool) -> None:
    plan = hermes(tokens=tokens, thinking=True)
    vocabulary = plan.markers.vocabulary
    splitter = MessageSplitter(plan)
    deltas = [*splitter.feed(ord("h"), "h")]
    for token in splitter.end_reasoning():
        deltas += splitter.feed(token, vocabulary.piece(token).decode())
    assert not splitter.in_reasoning
    deltas += [*splitter.feed(ord("H"), "H"), *splitter.finish(cut=False)]
    assert merged(deltas).segments == [("reasoning", "h"), ("text", "H")]


class CharacterVocab(FakeVocabulary):
    """What the engine asks of a vocabulary besides."""

    ends: frozenset[int] = frozenset()

    def text(self, token: int) -> str | None:
        return self.piece(token).decode()


@pytest.mark.parametrize("stop", ["</end>", "END"])
def test_a_stop_string_that_is_watched_for_lets_no_marker_through(stop: str) -> None:
    """The markers are taken out before stop strings are looked for: `</t…` may begin `</end>`, and must not leak."""
    plan = hermes(tokens=False, thinking=True)
    request = InferenceRequest(id="r", model="m", stop=[stop])
    job = Job(request, [], 1000, Sampling(), make_splitter=lambda _: MessageSplitter(plan))
    choice = Choice(job, 0, CharacterVocab())  # type: ignore[arg-type]
    events = [event for char in f"hmm</think>Hi {stop} more" for event in choice.feed(ord(char)) if not choice.finished]
    assert choice.finished is not None
    assert choice.finished.stop_sequence == stop
    deltas = [event for event in events if isinstance(event, TextDelta | ReasoningDelta)]
    assert merged(deltas).segments == [("reasoning", "hmm"), ("text", "Hi ")]
