"""The AI SDK's reading of chat completions (opencode uses it), after the zod schemas of its openai-compatible package.

A chunk that fits no schema is lost or ends the stream; `nullish` fields may be null or absent.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct

from tests.dialects.readers.frames import Complaint, Said, frames

__all__ = ["read_chat"]


class Function(Struct):
    name: str | None = None
    arguments: str | None = None


class CallDelta(Struct):
    """`function` is an object in every delta."""

    function: Function
    index: int | None = None
    id: str | None = None


class Delta(Struct):
    role: Literal["assistant", ""] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[CallDelta] | None = None


class Choice(Struct):
    delta: Delta | None = None
    finish_reason: str | None = None


class Details(Struct):
    reasoning_tokens: float | None = None
    cached_tokens: float | None = None


class Usage(Struct):
    prompt_tokens: float | None = None
    completion_tokens: float | None = None
    total_tokens: float | None = None
    prompt_tokens_details: Details | None = None
    completion_tokens_details: Details | None = None


class Chunk(Struct):
    choices: list[Choice]
    id: str | None = None
    created: float | None = None
    model: str | None = None
    usage: Usage | None = None


class ErrorBody(Struct):
    message: str
    type: str | None = None
    param: Any = None
    code: str | int | None = None


class ErrorChunk(Struct):
    error: ErrorBody


class MaybeError(Struct):
    error: Any = None


def read_chat(body: bytes) -> Said:
    said = Said()
    calls: list[dict[str, str]] = []
    for frame in frames(body):
        if frame.data == "[DONE]":
            continue
        if msgspec.json.decode(frame.data, type=MaybeError).error is not None:
            said.error, said.ended = msgspec.json.decode(frame.data, type=ErrorChunk).error.message, True
            continue
        for choice in msgspec.json.decode(frame.data, type=Chunk).choices[:1]:
            _chat_delta(choice, said, calls)
    if not said.ended:
        raise Complaint("Response stream ended without a finish reason.")
    if said.error is None:
        for call in calls:
            said.add_call(call["name"], call["arguments"] or "{}")
    return said


def _chat_delta(choice: Choice, said: Said, calls: list[dict[str, str]]) -> None:
    delta = choice.delta or Delta()
    said.text += delta.content or ""
    said.reasoning += delta.reasoning_content or delta.reasoning or ""
    for call in delta.tool_calls or []:
        index = len(calls) if call.index is None else call.index
        if index == len(calls):
            if not call.id or not call.function.name:
                raise Complaint("the first delta of a call needs id and function.name")
            calls.append({"name": call.function.name, "arguments": ""})
        calls[index]["arguments"] += call.function.arguments or ""
    if choice.finish_reason is not None:
        said.end, said.ended = choice.finish_reason, True
