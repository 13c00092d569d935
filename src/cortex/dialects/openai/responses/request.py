"""OpenAI's `POST /v1/responses`: request body to wire request.

Field by field after openai's Python SDK 3.54 (`types/responses/response_create_params.py`) and Codex's own request type
(codex-rs/codex-api, ResponsesApiRequest). State is optional: a request with `previous_response_id` continues the
conversation of a stored response.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec
from msgspec import Raw, Struct

from cortex.dialects.base import Call, CallContext
from cortex.dialects.ids import make_id
from cortex.dialects.json_body import decode_body, wire_safe
from cortex.dialects.openai.fields import reasoning_of, stop_of
from cortex.dialects.openai.responses.answer import ResponsePlan
from cortex.dialects.openai.responses.body import ResponsesBody, TextBody, TextFormatBody
from cortex.dialects.openai.responses.conversation import read_conversation, read_items
from cortex.dialects.openai.responses.objects import ResponseObject
from cortex.dialects.openai.responses.render import ResponseCollector, ResponseRenderer
from cortex.dialects.openai.responses.stored import StoredResponse
from cortex.dialects.openai.responses.tools import Toolbox
from cortex.dialects.openai.sampling import sampling_of
from cortex.errors import BadRequest, UnsupportedValue
from cortex.wire.inference import (
    InferenceRequest,
    JsonObjectFormat,
    JsonSchemaFormat,
    Message,
    OutputFormat,
    Text,
    TextFormat,
)

__all__ = ["parse_responses", "previous_id"]

_MAX_INT = 2**31 - 1
_BODY = msgspec.json.Decoder(ResponsesBody)
_NULL = b"null"


class PreviousId(Struct, frozen=True):
    previous_response_id: str | None = None


class EchoedFields(Struct, frozen=True):
    """The fields of a request that its response repeats unchanged."""

    instructions: str | list[Raw] | None = None
    metadata: Raw = Raw(_NULL)
    reasoning: Raw = Raw(_NULL)
    text: Raw = Raw(_NULL)
    tool_choice: Raw = Raw(_NULL)
    user: Raw = Raw(_NULL)


_PREVIOUS = msgspec.json.Decoder(PreviousId)
_ECHO = msgspec.json.Decoder(EchoedFields)


def previous_id(body: bytes) -> str | None:
    """The id of the response that this request continues, needed before `parse_responses`. Raises BadRequest."""
    return decode_body(_PREVIOUS, body).previous_response_id


def parse_responses(
    body: bytes,
    context: CallContext,
    *,
    previous: StoredResponse | None = None,
    keep: Callable[[StoredResponse], None] | None = None,
) -> Call:
    """A call for one response. `previous` is the stored response with the id `previous_id(body)`.

    `keep` is called once with the finished response, before the answer's last bytes are returned; not at all when the
    request has `store: false` or the response failed. Raises BadRequest, UnsupportedValue, and ModelNotFound from
    `context.resolve`.
    """
    decoded = decode_body(_BODY, body)
    _check(decoded, previous)
    conversation = (previous.items if previous else []) + _input_items(decoded)
    toolbox = Toolbox(decoded.tools or [])
    request = _request(decoded, context, conversation, toolbox)
    plan = ResponsePlan(
        request_id=context.request_id,
        start=_start(decoded, decode_body(_ECHO, body), request, context),
        toolbox=toolbox,
        opaque_reasoning="reasoning.encrypted_content" in (decoded.include or []),
        principal=context.principal,
        conversation=conversation,
        keep=None if decoded.store is False else keep,
    )
    return Call(
        requests=[request],
        stream=bool(decoded.stream),
        renderer=partial(ResponseRenderer, plan),
        collector=partial(ResponseCollector, plan),
    )


def _check(body: ResponsesBody, previous: StoredResponse | None) -> None:
    """Rejects fields that can't be ignored without changing the meaning of the request."""
    if body.background:
        raise UnsupportedValue("background responses are not supported: use stream", param="background")
    for name in ("conversation", "prompt"):
        if getattr(body, name) is not None:
            raise UnsupportedValue(f"{name} is not supported: send the items in input", param=name)
    if body.previous_response_id and previous is None:
        raise BadRequest(
            f"previous response {body.previous_response_id!r} is not stored here (any more): send the whole input",
            param="previous_response_id",
        )
    if body.input is None:
        raise BadRequest("input is required", param="input")


def _input_items(body: ResponsesBody) -> list[Raw]:
    """The items, copied: a reference from the store would keep the whole body in memory."""
    if isinstance(body.input, str):
        return [Raw(msgspec.json.encode({"type": "message", "role": "user", "content": body.input}))]
    return [raw.copy() for raw in body.input or []]


def _request(body: ResponsesBody, context: CallContext, conversation: list[Raw], toolbox: Toolbox) -> InferenceRequest:
    messages = _instructions(body, toolbox, context)
    messages += read_conversation(read_items(conversation, "input"), toolbox, context.images)
    if not messages:
        raise BadRequest("input has no message with content", param="input")
    limit = body.max_output_tokens
    template_kwargs = wire_safe(body.chat_template_kwargs or {}, "chat_template_kwargs")
    return InferenceRequest(
        id=context.request_id,
        model=context.resolve(body.model),
        messages=messages,
        tools=toolbox.offered,
        tool_choice=toolbox.choice(body.tool_choice),
        parallel=body.parallel_tool_calls,
        format=_format(body.text),
        sampling=sampling_of(body),
        stop=stop_of(body),
        max_output=None if limit is None else min(max(0, limit), _MAX_INT),
        logprobs=_logprobs(body),
        reasoning=reasoning_of(body.reasoning.effort if body.reasoning else None, None, template_kwargs),
        template_kwargs=template_kwargs,
        cache_key=body.prompt_cache_key,
        principal=context.principal,
        dialect="openai_responses",
    )


def _instructions(body: ResponsesBody, toolbox: Toolbox, context: CallContext) -> list[Message]:
    """The system message. The instructions of an earlier response don't apply to this one."""
    if isinstance(body.instructions, list):
        return read_conversation(read_items(body.instructions, "instructions"), toolbox, context.images)
    text = body.instructions or ""
    return [Message("system", [Text(text)])] if text.strip() else []


def _format(text: TextBody | None) -> OutputFormat:
    asked = (text.format if text else None) or TextFormatBody()
    if asked.type == "text":
        return TextFormat()
    if not asked.schema:
        return JsonObjectFormat()
    return JsonSchemaFormat(wire_safe(asked.schema, "text"), asked.name or "response", asked.strict is True)


def _logprobs(body: ResponsesBody) -> int | None:
    if body.top_logprobs is None and "message.output_text.logprobs" not in (body.include or []):
        return None
    return min(20, max(0, body.top_logprobs or 0))


def _start(body: ResponsesBody, echo: EchoedFields, request: InferenceRequest, context: CallContext) -> ResponseObject:
    """The response object before generation."""
    return ResponseObject(
        id=make_id("resp_", context.request_id),
        created_at=context.created,
        model=body.model or request.model,
        instructions=echo.instructions,
        max_output_tokens=body.max_output_tokens,
        metadata=_or_default(echo.metadata, b"{}"),
        parallel_tool_calls=body.parallel_tool_calls is not False,
        previous_response_id=body.previous_response_id,
        prompt_cache_key=body.prompt_cache_key,
        reasoning=_or_default(echo.reasoning, b'{"effort":null,"summary":null}'),
        store=body.store is not False,
        temperature=body.temperature,
        text=_or_default(echo.text, b'{"format":{"type":"text"}}'),
        tool_choice=_or_default(echo.tool_choice, b'"auto"'),
        tools=body.tools or [],
        top_logprobs=body.top_logprobs or 0,
        top_p=body.top_p,
        user=echo.user,
    )


def _or_default(raw: Raw, default: bytes) -> Raw:
    return Raw(default) if bytes(raw) == _NULL else raw
