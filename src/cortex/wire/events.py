"""The events that answer one request.

Order, per request: `Progress*  Started  (Progress | per-choice events)*  ChoiceFinished × n  Finished`, or `Failed`
at any point; exactly one `Finished` or `Failed`, always last. Per choice at most one segment is open at a time
(reasoning, text or one tool call); a ToolCallEnd precedes the next segment; the fragments of one call
concatenate to valid JSON if its ToolCallEnd is `complete`, else to the beginning of it; ToolCallStart is sent only
when the whole name is known.

`Started` means that the request is valid, tokenised and admitted: the serving layer may send its headers.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from cortex import errors

__all__ = [
    "ChoiceFinished",
    "Embedded",
    "Event",
    "Failed",
    "FinishReason",
    "Finished",
    "Progress",
    "ReasoningDelta",
    "Scored",
    "Stage",
    "Started",
    "TextDelta",
    "Timings",
    "TokenLogprob",
    "Tokens",
    "ToolCallArguments",
    "ToolCallEnd",
    "ToolCallStart",
    "TopLogprob",
    "Usage",
    "failed",
]

_Bytes = bytes  # a field named bytes hides the type from msgspec, which reads annotations inside the class

FinishReason = Literal["stop", "stop_sequence", "length", "tool_calls", "content_filter"]
Stage = Literal["queued", "loading", "prefill"]


class Usage(Struct, frozen=True, omit_defaults=True, gc=False):
    """Token counts. `prompt_tokens` includes `cached_tokens`; `completion_tokens` includes `reasoning_tokens`.
    `resumed` is how often the request was moved to another neuron."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    resumed: int = 0


class Timings(Struct, frozen=True, omit_defaults=True, gc=False):
    """Seconds, measured by the worker. `ttft_s` is from submission to the first sampled token.

    `draft_tokens` were proposed by speculative decoding, `draft_accepted` of them accepted.
    """

    queue_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    ttft_s: float = 0.0
    draft_tokens: int = 0
    draft_accepted: int = 0


class TopLogprob(Struct, frozen=True, gc=False):
    """An alternative to a sampled token, with its natural-log probability."""

    token_id: int
    bytes: _Bytes
    logprob: float


class TokenLogprob(Struct, frozen=True):
    """A token's natural-log probability by the model alone, before any sampler, and the alternatives to it.

    `logprob` is None for the first token of an echoed prompt, for which the model predicts nothing. `offset`: how many
    characters of the choice's text, an echoed prompt included, come before the token; one that begins inside a
    character has that character's offset.
    """

    token_id: int
    bytes: _Bytes
    logprob: float | None
    top: list[TopLogprob] = []
    offset: int = 0


class Started(Struct, frozen=True, tag="started", omit_defaults=True, gc=False):
    """The request was accepted.

    The gateway fills in `neuron`, for its records. `movable` False: the sampler's state doesn't follow from seed and
    tokens, so no other neuron can continue the answer with `replay`.
    """

    prompt_tokens: int
    cached_tokens: int = 0
    neuron: str = ""
    movable: bool = True


class Progress(Struct, frozen=True, tag="progress", omit_defaults=True):
    """Work before the first token: `done` of `total`, in tokens (prefill), thousandths (loading) or places (queued).

    Optional: no receiver may depend on getting any.
    """

    stage: Stage
    done: int = 0
    total: int = 0
    eta_s: float | None = None
    detail: str = ""


class TextDelta(Struct, frozen=True, tag="text", omit_defaults=True):
    """Text of the answer: whole characters, without markers and stop strings or parts of them."""

    text: str
    choice: int = 0
    logprobs: list[TokenLogprob] = []


class ReasoningDelta(Struct, frozen=True, tag="reasoning", omit_defaults=True, gc=False):
    """Text of the reasoning before the answer; like TextDelta."""

    text: str
    choice: int = 0


class ToolCallStart(Struct, frozen=True, tag="tool_start", omit_defaults=True, gc=False):
    """A tool call begins. `index` counts a choice's calls from 0; `id` is new (`call_…`) unless the format has one."""

    index: int
    id: str
    name: str
    choice: int = 0


class ToolCallArguments(Struct, frozen=True, tag="tool_args", omit_defaults=True, gc=False):
    """A fragment of the call's arguments, which are one JSON document."""

    index: int
    fragment: str
    choice: int = 0


class ToolCallEnd(Struct, frozen=True, tag="tool_end", omit_defaults=True, gc=False):
    """No more arguments follow. `complete` False: the answer was cut, or the model broke off, inside them; the
    fragments are not empty, and nobody may run the call."""

    index: int
    choice: int = 0
    complete: bool = True


class Tokens(Struct, frozen=True, tag="tokens", omit_defaults=True, gc=False):
    """Token ids sampled in this step, sent before the deltas that they produced; only with `report_tokens`."""

    ids: list[int]
    choice: int = 0


class ChoiceFinished(Struct, frozen=True, tag="choice_finished", omit_defaults=True, gc=False):
    """One choice has ended. `stop_sequence` is the client's stop string that ended it, if one did.

    `tool_calls` means that every call of the choice is complete; a choice with an incomplete one says `length`,
    whatever ended it, because that is the reason for which clients run no call.
    """

    reason: FinishReason
    stop_sequence: str | None = None
    choice: int = 0


class Embedded(Struct, frozen=True, tag="embedded", gc=False):
    """Vector number `index` as little-endian float32 bytes, L2-normalised."""

    index: int
    vector: bytes


class Scored(Struct, frozen=True, tag="scored", gc=False):
    """The relevance of document number `index`: the model's raw score, higher is better."""

    index: int
    score: float


class Finished(Struct, frozen=True, tag="finished", omit_defaults=True):
    """The request succeeded; sent after every ChoiceFinished. `resumed` is how often it was moved to another neuron."""

    usage: Usage = Usage()
    timings: Timings = Timings()
    resumed: int = 0


class Failed(Struct, frozen=True, tag="failed", omit_defaults=True):
    """The request failed. `code` is one of the codes of `cortex.errors`."""

    code: str
    message: str
    retry_after: int | None = None
    param: str | None = None

    def to_error(self) -> errors.CortexError:
        """The error that `failed` made this event of."""
        return errors.from_code(self.code, self.message, param=self.param, retry_after=self.retry_after)


Event = (
    Started
    | Progress
    | TextDelta
    | ReasoningDelta
    | ToolCallStart
    | ToolCallArguments
    | ToolCallEnd
    | Tokens
    | ChoiceFinished
    | Embedded
    | Scored
    | Finished
    | Failed
)


def failed(error: errors.CortexError) -> Failed:
    """The event that carries `error` to another process."""
    return Failed(code=error.code, message=error.message, retry_after=error.retry_after, param=error.param)
