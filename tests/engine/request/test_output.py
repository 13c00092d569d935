"""Stop strings and chat markup in one stream of tokens."""

from __future__ import annotations

import pytest

from cortex.engine.chat.formats.families import family_by_name
from cortex.engine.chat.splitting.splitter import MessageSplitter
from cortex.engine.chat.types import Delta
from cortex.engine.request.output import OutputProcessor, PreparedRequest
from cortex.wire.events import ChoiceFinished, ReasoningDelta, TextDelta
from cortex.wire.inference import InferenceRequest, Sampling
from tests.engine.chat.fake_vocabulary import FakeVocabulary
from tests.engine.chat.splitting.harness import THINK, make_plan, merged


class CharacterVocab(FakeVocabulary):
    """What the engine needs of a vocabulary besides."""

    ends: frozenset[int] = frozenset()

    def text(self, token: int) -> str | None:
        return self.piece(token).decode()


@pytest.mark.parametrize("stop", ["</end>", "END"])
def test_a_stop_string_that_is_watched_for_lets_no_marker_through(stop: str) -> None:
    """Markers are removed before stop strings are looked for: `</t…` may begin `</end>`, and must not be sent."""
    plan = make_plan(family_by_name("hermes"), reasoning=THINK, starts_in_reasoning=True)
    request = InferenceRequest(id="r", model="m", stop=[stop])
    prepared = PreparedRequest(request, [], 1000, Sampling(), make_splitter=lambda _: MessageSplitter(plan))
    output = OutputProcessor(prepared, 0, CharacterVocab())  # type: ignore[arg-type]
    events = [event for char in f"hmm</think>Hi {stop} more" for event in output.feed(ord(char)) if not output.finished]
    assert output.finished is not None
    assert output.finished.stop_sequence == stop
    deltas = [event for event in events if isinstance(event, TextDelta | ReasoningDelta)]
    assert merged(deltas).segments == [("reasoning", "hmm"), ("text", "Hi ")]


def test_a_spent_budget_closes_reasoning_once_and_the_answer_follows() -> None:
    """The closing marker is forced, counts as reasoning, and is in no event."""
    plan = make_plan(family_by_name("hermes"), reasoning=THINK, starts_in_reasoning=True)
    request = InferenceRequest(id="r", model="m")
    prepared = PreparedRequest(request, [], 1000, Sampling(), lambda _: MessageSplitter(plan), reasoning_budget=3)
    output = OutputProcessor(prepared, 0, CharacterVocab())  # type: ignore[arg-type]
    events = [event for char in "hmm" for event in output.feed(ord(char))]
    assert output.overspent
    forced = output.forced()
    events += [event for token in forced for event in output.force(token)]
    assert output.forced() == []
    events += [event for char in "Hi" for event in output.feed(ord(char))]
    deltas = [event for event in events if isinstance(event, TextDelta | ReasoningDelta)]
    assert merged(deltas).segments == [("reasoning", "hmm"), ("text", "Hi")]
    assert (output.reasoning_tokens, output.completion_tokens) == (3 + len(forced), 5 + len(forced))


END = "\0"
CALL = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
LONG = '<tool_call>{"name": "f", "arguments": {"a": "' + "x" * 300
WHOLE = ("call", "f", '{"a": 1}')
BROKEN = ("cut call", "f", '{"a": "' + "x" * 300)


@pytest.mark.parametrize(
    ("written", "room", "expected", "reason"),
    [
        (CALL + END, 1000, [WHOLE], "tool_calls"),
        (f"Hi{CALL}", 2, [("text", "Hi")], "length"),
        (f"Hi{CALL}", 22, [("text", "Hi")], "length"),
        (CALL, 43, [("cut call", "f", '{"a":')], "length"),
        (CALL + CALL, len(CALL), [WHOLE], "length"),
        (CALL + CALL, len(CALL) + 43, [WHOLE, ("cut call", "f", '{"a":')], "length"),
        (LONG + END, 1000, [BROKEN], "length"),
        (f'{LONG}" oops{END}', 1000, [("cut call", "f", BROKEN[2] + '" '), ("text", "oops")], "length"),
        (f"{CALL} STOP {CALL}", 1000, [WHOLE], "stop_sequence"),
        (f"STOP{CALL}", 1000, [], "stop_sequence"),
        ("<tool_call>" + END, 1000, [("text", "<tool_call>")], "stop"),
    ],
    ids=[
        "a whole call",
        "cut before the marker",
        "cut before the name",
        "cut in the arguments",
        "cut behind a call",
        "cut in a second call",
        "the model ends in the arguments",
        "the model breaks the arguments",
        "a stop string behind a call",
        "a stop string before a call",
        "a marker and the turn's end",
    ],
)
@pytest.mark.parametrize("choice", [0, 1])
def test_only_whole_calls_end_an_answer_as_calls(
    written: str, room: int, expected: list[tuple[str, ...]], reason: str, choice: int
) -> None:
    plan = make_plan(family_by_name("hermes"))
    request = InferenceRequest(id="r", model="m", stop=["STOP"], n=2)
    prepared = PreparedRequest(request, [], room, Sampling(), lambda number: MessageSplitter(plan, number))
    vocab = CharacterVocab()
    vocab.ends = frozenset({ord(END)})
    output = OutputProcessor(prepared, choice, vocab)  # type: ignore[arg-type]
    events = [event for char in written if output.finished is None for event in output.feed(ord(char))]
    assert output.finished is not None
    assert output.finished.reason == reason
    assert events[-1] == output.finished
    assert all(event.choice == choice for event in events)  # type: ignore[union-attr]
    assert merged(event for event in events if isinstance(event, Delta)).segments == expected


def test_with_room_for_nothing_the_prompt_is_evaluated_and_nothing_is_said() -> None:
    prepared = PreparedRequest(InferenceRequest(id="r", model="m", max_output=0), [], 0, Sampling())
    output = OutputProcessor(prepared, 0, CharacterVocab())  # type: ignore[arg-type]
    assert output.feed(ord("x")) == [ChoiceFinished("length")]
    assert output.completion_tokens == 0
