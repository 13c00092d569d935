"""What comes back: the event stream of one request.

Order, per request: `Progress*  Started  (Progress | per-choice events)*  ChoiceFinished × n  Finished`, or `Failed`
at any point; exactly one `Finished` or `Failed`, always last. Per choice at most one segment is open at a time
(reasoning, text or one tool call); a ToolCallEnd precedes the next segment; the fragments of one call
concatenate to valid JSON; a call is announced only when its whole name is known.

`Started` says that the request is valid, tokenised and admitted: the serving layer may send its headers.
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
    `resumed` counts the neurons that the request was moved from."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    resumed: int = 0


class Timings(Struct, frozen=True, omit_defaults=True, gc=False):
    """Seconds as the worker saw them. `ttft_s` runs from submission to the first sampled token."""

    queue_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    ttft_s: float = 0.0
    draft_tokens: int = 0
    draft_accepted: int = 0


class TopLogprob(Struct, frozen=True, gc=False):
    token_id: int
    bytes: _Bytes
    logprob: float


class TokenLogprob(Struct, frozen=True):
    """Natural-log probability of a token as the model gave it, before any sampler, and its alternatives. None for the
    first token of an echoed prompt, which nothing comes before."""

    token_id: int
    bytes: _Bytes
    logprob: float | None
    top: list[TopLogprob] = []


class Started(Struct, frozen=True, tag="started", omit_defaults=True, gc=False):
    """The request was accepted. `neuron` is filled by the gateway, for its records. `movable` off: its sampler keeps
    more than seed and tokens tell, so another neuron can't go on with the answer by `replay`."""

    prompt_tokens: int
    cached_tokens: int = 0
    neuron: str = ""
    movable: bool = True


class Progress(Struct, frozen=True, tag="progress", omit_defaults=True):
    """Work before the first token: `done` of `total` (tokens for prefill, thousandths for loading, places for
    queued). Never promised; keep-alive is driven by the clock, not by these."""

    stage: Stage
    done: int = 0
    total: int = 0
    eta_s: float | None = None
    detail: str = ""


class TextDelta(Struct, frozen=True, tag="text", omit_defaults=True):
    """Whole characters only, never part of a marker or of a stop string."""

    text: str
    choice: int = 0
    logprobs: list[TokenLogprob] = []


class ReasoningDelta(Struct, frozen=True, tag="reasoning", omit_defaults=True, gc=False):
    text: str
    choice: int = 0


class ToolCallStart(Struct, frozen=True, tag="tool_start", omit_defaults=True, gc=False):
    """`index` counts the calls of one choice from 0; `id` is fresh (`call_…`) unless the format carries its own."""

    index: int
    id: str
    name: str
    choice: int = 0


class ToolCallArguments(Struct, frozen=True, tag="tool_args", omit_defaults=True, gc=False):
    index: int
    fragment: str
    choice: int = 0


class ToolCallEnd(Struct, frozen=True, tag="tool_end", omit_defaults=True, gc=False):
    index: int
    choice: int = 0


class Tokens(Struct, frozen=True, tag="tokens", omit_defaults=True, gc=False):
    """Token ids sampled in this step, before the deltas they produced; only with `report_tokens`."""

    ids: list[int]
    choice: int = 0


class ChoiceFinished(Struct, frozen=True, tag="choice_finished", omit_defaults=True, gc=False):
    reason: FinishReason
    stop_sequence: str | None = None
    choice: int = 0


class Embedded(Struct, frozen=True, tag="embedded", gc=False):
    """Vector number `index` as little-endian float32 bytes, L2-normalised."""

    index: int
    vector: bytes


class Scored(Struct, frozen=True, tag="scored", gc=False):
    index: int
    score: float


class Finished(Struct, frozen=True, tag="finished", omit_defaults=True):
    """The request's end when it succeeded, after every ChoiceFinished. `resumed` counts the neurons it was moved
    from."""

    usage: Usage = Usage()
    timings: Timings = Timings()
    resumed: int = 0


class Failed(Struct, frozen=True, tag="failed", omit_defaults=True):
    """The request's end when it failed; `code` is one of `cortex.errors`."""

    code: str
    message: str
    retry_after: int | None = None
    param: str | None = None

    def to_error(self) -> errors.CortexError:
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
    """The event that carries `error` across a process."""
    return Failed(code=error.code, message=error.message, retry_after=error.retry_after, param=error.param)
