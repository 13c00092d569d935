"""OpenAI's `POST /v1/chat/completions`: request body to wire request.

Fields after openai's Python SDK 3.54 (`types/chat/completion_create_params.py`) and llama.cpp's extensions
(`tools/server/server-schema.cpp`).
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw

from cortex.dialects.anthropic.conversation import system_message
from cortex.dialects.base import Call, CallContext
from cortex.dialects.fields import MAX_ALTERNATIVES, GenerationBody, alternatives_of, max_output_of, stop_of
from cortex.dialects.ids import make_id
from cortex.dialects.inline_reasoning import InlineCollector, InlineRenderer
from cortex.dialects.json_body import decode_body, wire_safe
from cortex.dialects.openai.chat.answer import ChatAnswerOptions, ChatCollector
from cortex.dialects.openai.chat.stream import ChatRenderer
from cortex.dialects.openai.messages import ChatMessage, ChatMessageReader, continues_final
from cortex.dialects.openai.tools import (
    ChatFunction,
    ChatTool,
    ChatToolChoice,
    LegacyFunctionChoice,
    custom_names,
    functions_of,
    legacy_tool_choice_of,
    tool_choice_of,
    tools_of,
)
from cortex.dialects.output_format import output_format_of
from cortex.dialects.reasoning import reasoning_of
from cortex.dialects.sampling import sampling_of
from cortex.errors import BadRequest, UnsupportedValue
from cortex.wire.inference import InferenceRequest, Tool, ToolChoice

__all__ = ["ChatBody", "parse_chat"]


class ChatBody(GenerationBody, frozen=True, kw_only=True):
    """`system` is Anthropic's, heard because clients mix the APIs. `input` is the Responses API's: a body with it and
    without messages is told where to go."""

    messages: list[ChatMessage] | None = None
    system: str | list[Raw] | None = None
    input: Any = None
    tools: list[ChatTool] | None = None
    tool_choice: str | ChatToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: list[ChatFunction] | None = None
    function_call: str | LegacyFunctionChoice | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_ALTERNATIVES)] | None = None
    reasoning_format: str | None = None
    continue_final_message: bool | None = None
    modalities: list[str] | None = None


_decoder = msgspec.json.Decoder(ChatBody)


def parse_chat(body: bytes, context: CallContext) -> Call:
    """A call for a chat completion. Raises BadRequest, UnsupportedValue, and ModelNotFound from `context.resolve`."""
    chat = decode_body(_decoder, body)
    _reject_contradictions(chat)
    options = _options(chat, context)
    inline = chat.reasoning_format == "none"
    return Call(
        requests=[_request(chat, context)],
        stream=chat.stream is True,
        renderer=lambda: InlineRenderer(ChatRenderer(options)) if inline else ChatRenderer(options),
        collector=lambda: InlineCollector(ChatCollector(options)) if inline else ChatCollector(options),
        keepalive_s=chat.sse_ping_interval,
    )


def _reject_contradictions(chat: ChatBody) -> None:
    """Rejects fields that can't be ignored without changing the meaning of the request."""
    if chat.messages is None:
        if chat.input is None:
            raise BadRequest("messages is required", param="messages")
        raise BadRequest(
            "messages is required; a request with input is one of the Responses API: send it to /v1/responses",
            param="messages",
        )
    if chat.modalities == ["audio"]:
        raise UnsupportedValue("only text can be generated", param="modalities")
    if chat.top_logprobs and not chat.logprobs:
        raise BadRequest("top_logprobs needs logprobs: true", param="top_logprobs")


def _request(chat: ChatBody, context: CallContext) -> InferenceRequest:
    messages = ChatMessageReader(context.images, context.request_id).read(chat.messages or [])
    if chat.system:
        messages = system_message(chat.system, normalise_billing=False) + messages
    tools, choice = _tools(chat)
    kwargs = wire_safe(chat.chat_template_kwargs or {}, "chat_template_kwargs")
    return InferenceRequest(
        id=context.request_id,
        model=context.resolve(chat.model),
        messages=messages,
        tools=tools,
        tool_choice=choice,
        parallel=_parallel(chat),
        format=output_format_of(chat, tools),
        sampling=sampling_of(chat),
        stop=stop_of(chat),
        max_output=max_output_of(chat),
        n=chat.n or 1,
        logprobs=(chat.top_logprobs or 0) if chat.logprobs else alternatives_of(chat),
        reasoning=reasoning_of(chat),
        template_kwargs=kwargs,
        continue_final=continues_final(messages, chat.continue_final_message),
        cache_key=chat.prompt_cache_key,
        cache_prompt=chat.cache_prompt is not False,
        principal=context.principal,
        dialect="openai_chat",
        report_progress=chat.return_progress is True and chat.stream is True,
    )


def _parallel(chat: ChatBody) -> bool | None:
    choice = chat.tool_choice
    if chat.functions is not None or (isinstance(choice, ChatToolChoice) and choice.disable_parallel_tool_use):
        return False
    return chat.parallel_tool_calls


def _tools(chat: ChatBody) -> tuple[list[Tool], ToolChoice]:
    if chat.functions is not None and not chat.tools:
        tools = functions_of(chat.functions)
        return tools, legacy_tool_choice_of(chat.function_call, tools)
    tools = tools_of(chat.tools or [])
    return tools, tool_choice_of(chat.tool_choice, tools)


def _options(chat: ChatBody, context: CallContext) -> ChatAnswerOptions:
    return ChatAnswerOptions(
        id=make_id("chatcmpl-", context.request_id),
        created=context.created,
        model=chat.model or context.resolve(chat.model),
        choices=chat.n or 1,
        usage=bool(chat.stream_options and chat.stream_options.include_usage),
        timings=chat.timings_per_token is True,
        progress=chat.return_progress is True,
        legacy=chat.functions is not None and not chat.tools,
        custom=custom_names(chat.tools or []),
    )
