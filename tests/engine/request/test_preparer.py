"""What of a raw prompt is echoed, and from which token on it has log-probabilities."""

from __future__ import annotations

from typing import Any, cast

import pytest

from cortex.engine.chat.types import Prepared
from cortex.engine.llama.model import Vocab
from cortex.engine.request.output import PreparedRequest
from cortex.engine.request.preparer import Preparer, TokenLimits
from cortex.errors import UnsupportedValue
from cortex.wire.inference import InferenceRequest, Message, Sampling, Text


class _Vocab:
    """One token per byte; 0 is between two pieces; 1 is BOS, spelled `<s>`, which is put before prompts without it."""

    size = 256
    bos = 1
    fim = None

    def piece(self, token: int) -> bytes:
        return b"<s>" if token == self.bos else bytes([token])

    def prompt_tokens(self, *pieces: str) -> list[int]:
        return [self.bos, *"\0".join(pieces).removeprefix("<s>").encode()]


def prepare(prompt: str | list[int], **fields: Any) -> PreparedRequest:
    preparer = Preparer(
        cast("Vocab", _Vocab()),
        TokenLimits(100),
        chat=None,
        spec_for_format=lambda _format: None,
        compile_constraint=lambda _spec: pytest.fail("nothing to compile"),
        profile=Sampling(),
        metadata=Sampling(),
    )
    return preparer.prepare(InferenceRequest("r", "m", prompt=prompt, **fields))


class _Chat:
    """Renders every chat to pieces of which none may be joined with the next."""

    def prepare(self, request: InferenceRequest) -> Prepared:
        del request
        return Prepared("a<|b|>c", lambda _: pytest.fail("no answer"), parts=["a<", "|b|>c"])


def test_the_pieces_of_a_chats_prompt_are_tokenised_one_by_one() -> None:
    preparer = Preparer(
        cast("Vocab", _Vocab()),
        TokenLimits(100),
        chat=_Chat(),
        spec_for_format=lambda _format: None,
        compile_constraint=lambda _spec: pytest.fail("nothing to compile"),
        profile=Sampling(),
        metadata=Sampling(),
    )
    job = preparer.prepare(InferenceRequest("r", "m", messages=[Message("user", [Text("hi")])]))
    assert job.tokens == [1, *b"a<", 0, *b"|b|>c"]


@pytest.mark.parametrize(
    ("prompt", "first"),
    [("ab", 1), ("<s>ab", 0), ([1, 97], 0), ([97, 98], 0)],
    ids=["BOS added", "BOS written", "BOS as a token", "no BOS"],
)
def test_only_what_the_client_wrote_is_scored(prompt: str | list[int], first: int) -> None:
    prepared = prepare(prompt, echo=True, logprobs=1)
    assert prepared.scored_from == first
    assert prepared.echo


def test_without_echo_or_logprobs_no_prompt_is_scored() -> None:
    assert prepare("ab", logprobs=1).scored_from is None
    assert prepare("ab", echo=True).scored_from is None


def test_a_resumed_answer_does_not_echo_again() -> None:
    prepared = prepare("ab", echo=True, logprobs=1, replay=[99])
    assert (prepared.echo, prepared.scored_from) == ("", None)


def test_a_suffix_cannot_be_scored() -> None:
    with pytest.raises(UnsupportedValue, match="suffix"):
        prepare("ab", echo=True, logprobs=1, suffix="c")
