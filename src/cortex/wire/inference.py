"""Requests for text, vectors and ranks, independent of the dialect they came in.

They are sent from gateway to neuron and from neuron to worker. `None` always means "not given"; the worker resolves
defaults: the request's value, then the profile's, the GGUF's, llama.cpp's. Fields are only ever added, with defaults.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

__all__ = [
    "EmbeddingRequest",
    "Grammar",
    "Image",
    "InferenceRequest",
    "JsonObjectFormat",
    "JsonSchema",
    "JsonSchemaFormat",
    "Message",
    "OutputFormat",
    "Part",
    "Reasoning",
    "Request",
    "RerankRequest",
    "Role",
    "Sampling",
    "Text",
    "TextFormat",
    "Thinking",
    "Tool",
    "ToolCall",
    "ToolChoice",
    "ToolResult",
]

JsonSchema = dict[str, Any]
"""A JSON Schema document, kept as plain JSON values."""

Role = Literal["system", "developer", "user", "assistant", "tool"]


class Text(Struct, frozen=True, tag="text"):
    """Text of a message."""

    text: str


class Image(Struct, frozen=True, tag="image"):
    """An encoded image file (PNG, JPEG, WebP …), already downloaded and within the size limit."""

    data: bytes
    mime: str = "image/png"


class Thinking(Struct, frozen=True, tag="thinking", omit_defaults=True):
    """Reasoning of an earlier assistant turn, as the client sent it back."""

    text: str
    signature: str | None = None


class ToolCall(Struct, frozen=True, tag="tool_call"):
    """A call of an earlier assistant turn. `arguments` is the JSON text of an object: exactly the client's text if that
    is one (`dialects.history`)."""

    id: str
    name: str
    arguments: str


class ToolResult(Struct, frozen=True, tag="tool_result", omit_defaults=True):
    """The result of the call `call_id`. `name` is the tool's, where the dialect could find it out."""

    call_id: str
    parts: list[Text | Image]
    name: str | None = None
    is_error: bool = False


Part = Text | Image | Thinking | ToolCall | ToolResult


class Message(Struct, frozen=True, omit_defaults=True):
    """One turn. A `tool` message holds ToolResult parts only; ToolCall and Thinking occur in `assistant` only."""

    role: Role
    parts: list[Part]
    name: str | None = None


class Tool(Struct, frozen=True, omit_defaults=True):
    """A function that the model may call. `strict`: its arguments must follow `parameters` exactly."""

    name: str
    description: str = ""
    parameters: JsonSchema = msgspec.field(default_factory=lambda: {"type": "object", "properties": {}})
    strict: bool = False


class ToolChoice(Struct, frozen=True, omit_defaults=True):
    """Whether tools may or must be called, and which: `only` empty means all offered tools, one name a named choice."""

    mode: Literal["auto", "none", "required"] = "auto"
    only: list[str] = []


class TextFormat(Struct, frozen=True, tag="text"):
    """Free text."""


class JsonObjectFormat(Struct, frozen=True, tag="json_object"):
    """Any JSON object."""


class JsonSchemaFormat(Struct, frozen=True, tag="json_schema", omit_defaults=True):
    """JSON that follows a schema."""

    schema: JsonSchema
    name: str = "response"
    strict: bool = True


class Grammar(Struct, frozen=True, tag="grammar"):
    """Text that follows a grammar."""

    syntax: Literal["gbnf", "lark", "regex"]
    text: str


OutputFormat = TextFormat | JsonObjectFormat | JsonSchemaFormat | Grammar


class Sampling(Struct, frozen=True, omit_defaults=True):
    """Sampling parameters under llama.cpp's names; None = not given."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    top_n_sigma: float | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    dynatemp_range: float | None = None
    dynatemp_exponent: float | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_penalty_last_n: int | None = None
    dry_sequence_breakers: list[str] | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    mirostat: Literal[0, 1, 2] | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    seed: Annotated[int, Meta(ge=-1)] | None = None
    logit_bias: dict[int, float] | None = None
    ignore_eos: bool | None = None

    def merged_over(self, fallback: Sampling) -> Sampling:
        """This one's values where they are given, `fallback`'s elsewhere."""
        mine = {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}
        return msgspec.structs.replace(fallback, **mine)


class Reasoning(Struct, frozen=True, omit_defaults=True):
    """Whether and how long the model reasons first. `budget` is in tokens; `effort` is the client's value (none … max),
    which is mapped to what the template accepts."""

    mode: Literal["auto", "on", "off"] = "auto"
    effort: str | None = None
    budget: int | None = None


class InferenceRequest(Struct, frozen=True, tag="generate", omit_defaults=True):
    """One generation. Either `messages` (templated) or `prompt` (raw text or token ids) is given, never both.

    `count_only` stops after tokenising: the events are Started (with the number) and Finished.
    `logprobs` is the number of alternatives to report per token (0 = the chosen one only; None = off).
    `cache_key` is a hint for routing requests with a common prefix to the same neuron, `principal` the API key's name
    (None = anonymous), `dialect` the API that the request came in by.
    `deadline_s` limits the whole request, from its arrival at the process that reads it.
    `streamed` False: the client gets no keep-alives while it waits, so during a long load it is told to retry later.
    `replay` are token ids that the client has already: they are evaluated after the prompt and not emitted again. Used
    to continue a stream whose neuron was lost.
    """

    id: str
    model: str
    messages: list[Message] = []
    prompt: str | list[int] | None = None
    suffix: str | None = None
    echo: bool = False
    tools: list[Tool] = []
    tool_choice: ToolChoice = ToolChoice()
    parallel: bool | None = None
    format: OutputFormat = TextFormat()
    sampling: Sampling = Sampling()
    stop: list[str] = []
    max_output: int | None = None
    n: Annotated[int, Meta(ge=1)] = 1
    logprobs: int | None = None
    reasoning: Reasoning = Reasoning()
    template_kwargs: dict[str, Any] = {}
    continue_final: bool = False
    cache_key: str | None = None
    cache_prompt: bool = True
    principal: str | None = None
    dialect: str = ""
    priority: int = 0
    deadline_s: float | None = None
    report_progress: bool = False
    report_tokens: bool = False
    count_only: bool = False
    replay: list[int] = []
    streamed: bool = True


class EmbeddingRequest(Struct, frozen=True, tag="embed", omit_defaults=True):
    """A request for a vector of each of `inputs` (texts or token ids): one Embedded event each, then Finished."""

    id: str
    model: str
    inputs: list[str | list[int]]
    principal: str | None = None
    dialect: str = ""
    priority: int = 0
    deadline_s: float | None = None


class RerankRequest(Struct, frozen=True, tag="rerank", omit_defaults=True):
    """A request for the relevance of each document to `query`: one Scored event each, then Finished."""

    id: str
    model: str
    query: str
    documents: list[str]
    principal: str | None = None
    dialect: str = ""
    priority: int = 0
    deadline_s: float | None = None


Request = InferenceRequest | EmbeddingRequest | RerankRequest
