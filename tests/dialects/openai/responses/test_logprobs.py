"""Log-probabilities in a Responses answer: with the delta they belong to, and together at the end."""

from __future__ import annotations

import json

from openai.types.responses import ResponseOutputText, ResponseTextDeltaEvent

from cortex.dialects.openai.responses.request import parse_responses
from cortex.wire.events import ChoiceFinished, Event, Finished, Started, TextDelta, TokenLogprob, TopLogprob, Usage
from tests.dialects.harness import CONTEXT
from tests.dialects.readers.frames import frames

BODY = b'{"model":"demo","input":"Hi","stream":true,"top_logprobs":1,"include":["message.output_text.logprobs"]}'
EVENTS: list[Event] = [
    Started(3),
    TextDelta("Hi", logprobs=[TokenLogprob(7, b"Hi", -0.5, [TopLogprob(8, b"Ho", -1.0)])]),
    TextDelta("é", logprobs=[TokenLogprob(9, b"\xc3", -0.1), TokenLogprob(10, b"\xa9", -0.2)]),
    ChoiceFinished("stop"),
    Finished(Usage(3, 0, 3)),
]


def test_deltas_carry_the_tokens_they_are_made_of() -> None:
    body = parse_responses(BODY, CONTEXT).renderer().feed(0, EVENTS)
    deltas = [frame.data for frame in frames(body) if frame.event == "response.output_text.delta"]
    parsed = [ResponseTextDeltaEvent.model_validate_json(data, strict=True) for data in deltas]
    assert [[entry.logprob for entry in delta.logprobs] for delta in parsed] == [[-0.5], [-0.1, -0.2]]
    [top] = parsed[0].logprobs[0].top_logprobs or []
    assert (top.token, top.logprob) == ("Ho", -1.0)


def test_the_finished_text_has_them_all_with_their_bytes() -> None:
    collector = parse_responses(BODY, CONTEXT).collector()
    collector.feed(0, EVENTS)
    [part] = json.loads(collector.finish())["output"][0]["content"]
    text = ResponseOutputText.model_validate(part, strict=True)
    assert [entry.bytes for entry in text.logprobs or []] == [list(b"Hi"), [0xC3], [0xA9]]
