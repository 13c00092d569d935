"""Scored tokens and the text they are sent with."""

from __future__ import annotations

import random
from typing import Any, cast

import pytest

from cortex.engine.chat.formats.families import family_by_name
from cortex.engine.chat.splitting.splitter import MessageSplitter
from cortex.engine.llama.model import Vocab
from cortex.engine.request.output import OutputProcessor, PreparedRequest
from cortex.wire.events import Event, TextDelta, TokenLogprob
from cortex.wire.inference import InferenceRequest, Sampling
from tests.engine.chat.fake_vocabulary import FakeVocabulary
from tests.engine.chat.splitting.harness import THINK, make_plan

END = b"</s>"
CONTROL = b"<|x|>"


class Pieces:
    """A vocabulary whose tokens are the given pieces; `END` ends, `CONTROL` has no text."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces
        self.ends = frozenset(token for token, piece in enumerate(pieces) if piece == END)

    def piece(self, token: int) -> bytes:
        return self.pieces[token]

    def text(self, token: int) -> str | None:
        try:
            return self.pieces[token].decode()
        except UnicodeDecodeError:
            return None

    def is_control(self, token: int) -> bool:
        return self.pieces[token] in (END, CONTROL)


def feed(pieces: list[bytes], *, stop: list[str] | None = None, echo: str = "", room: int = 1000) -> list[Event]:
    vocab = Pieces(*pieces)
    request = InferenceRequest(id="r", model="m", prompt=echo, logprobs=0, stop=stop or [])
    output = OutputProcessor(PreparedRequest(request, [], room, Sampling(), echoed=len(echo)), 0, cast("Vocab", vocab))
    events: list[Event] = []
    for token, piece in enumerate(pieces):
        events += output.feed(token, TokenLogprob(token, piece, -1.0))
        if output.finished:
            break
    return events


def sent(events: list[Event]) -> tuple[str, list[tuple[bytes, int]]]:
    deltas = [event for event in events if isinstance(event, TextDelta)]
    tokens = [(token.bytes, token.offset) for delta in deltas for token in delta.logprobs]
    return "".join(delta.text for delta in deltas), tokens


@pytest.mark.parametrize(
    ("pieces", "fields", "text", "tokens"),
    [
        pytest.param([b"ab", b"c", END], {}, "abc", [(b"ab", 0), (b"c", 2), (END, 3)], id="the end token has an entry"),
        pytest.param([END], {}, "", [(END, 0)], id="though nothing else was generated"),
        pytest.param([b"a", END], {"echo": "hé"}, "a", [(b"a", 2), (END, 3)], id="offsets count the echo"),
        pytest.param(
            ["😀".encode()[:2], "😀".encode()[2:], b"!", END],
            {},
            "😀!",
            [("😀".encode()[:2], 0), ("😀".encode()[2:], 0), (b"!", 1), (END, 2)],
            id="byte tokens have their character's offset",
        ),
        pytest.param([b"a", b"\xf0\x9f"], {"room": 2}, "a", [(b"a", 0), (b"\xf0\x9f", 1)], id="a cut last character"),
        pytest.param([b"\xf0\x9f"], {"room": 1}, "", [(b"\xf0\x9f", 0)], id="a cut only character"),
        pytest.param(
            [b"a", CONTROL, b"b", END], {}, "ab", [(b"a", 0), (CONTROL, 1), (b"b", 1), (END, 2)], id="control"
        ),
        pytest.param([b"a", b"E", b"N", b"D", b"x"], {"stop": ["END"]}, "a", [(b"a", 0)], id="nothing behind a stop"),
        pytest.param([b"a", b"bE", b"ND"], {"stop": ["END"]}, "ab", [(b"a", 0), (b"bE", 1)], id="begun before a stop"),
        pytest.param([b"END"], {"stop": ["END"]}, "", [], id="a stop string alone"),
        pytest.param(
            [b"aE", b"E", b"N", b"x", END],
            {"stop": ["END"]},
            "aEENx",
            [(b"aE", 0), (b"E", 2), (b"N", 3), (b"x", 4), (END, 5)],
            id="held back and sent after all",
        ),
        pytest.param(
            ["é".encode()[:1], "é".encode()[1:]], {"stop": ["é"]}, "", [], id="bytes of a stop string are behind it"
        ),
    ],
)
def test_token_lists_go_with_the_text(
    pieces: list[bytes], fields: dict[str, Any], text: str, tokens: list[tuple[bytes, int]]
) -> None:
    assert sent(feed(pieces, **fields)) == (text, tokens)


def test_offsets_never_run_backwards_and_lie_in_the_text_sent() -> None:
    """Random pieces, some of them parts of characters and of the stop string."""
    rng = random.Random(5)
    stock = [b"a", b"bE", b"EN", b"N", b"D", b"D ", "é".encode()[:1], "é".encode()[1:], "😀".encode(), CONTROL]
    for _ in range(500):
        pieces = [*rng.choices(stock, k=rng.randrange(12)), END]
        at, before = "", -1
        for delta in feed(pieces, stop=["END"]):
            if isinstance(delta, TextDelta):
                at += delta.text
                for token in delta.logprobs:
                    assert before <= token.offset <= len(at)
                    before = token.offset
                    if (text := token.bytes.decode(errors="ignore").encode()) == token.bytes not in (END, CONTROL):
                        shared = at[token.offset :].encode()
                        assert shared.startswith(text) or text.startswith(shared)


class CharacterVocab(FakeVocabulary):
    ends: frozenset[int] = frozenset()

    def text(self, token: int) -> str | None:
        return self.piece(token).decode()


@pytest.mark.parametrize("answer", ["Hi <there", "Hi\n\nyou"])
def test_a_chats_list_has_the_tokens_of_its_content(answer: str) -> None:
    """No token of the reasoning and of the markers around it."""
    plan = make_plan(family_by_name("hermes"), reasoning=THINK, starts_in_reasoning=True)
    request = InferenceRequest(id="r", model="m", logprobs=0)
    prepared = PreparedRequest(request, [], 1000, Sampling(), make_splitter=lambda _: MessageSplitter(plan))
    output = OutputProcessor(prepared, 0, cast("Vocab", CharacterVocab()))
    events: list[Event] = []
    for char in f"hmm Hi</think>\n\n{answer}\x00":
        events += output.feed(ord(char), TokenLogprob(ord(char), char.encode(), -1.0))
    text, tokens = sent(events)
    assert text == answer + "\x00"
    assert [(piece.decode(), offset) for piece, offset in tokens] == [(char, at) for at, char in enumerate(text)]
