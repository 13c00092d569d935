"""Anthropic's `POST /v1/messages` and `/v1/messages/count_tokens`: request bodies to wire requests.

Field by field after anthropic's Python SDK 2.12 (`types/message_create_params.py`). Fields without a meaning for local
models (cache_control, container, context_management, service_tier …) and unknown fields are ignored.
"""

from __future__ import annotations

import logging
import re
from functools import partial

import msgspec

from cortex.dialects.anthropic.answer import CountCollector, MessageCollector
from cortex.dialects.anthropic.body import MessagesBody, ToolChoiceParam, ToolParam
from cortex.dialects.anthropic.conversation import read_messages, system_message
from cortex.dialects.anthropic.reply import MessageHead
from cortex.dialects.anthropic.stream import MessageRenderer
from cortex.dialects.base import Call, CallContext
from cortex.dialects.fields import ThinkingConfig, max_output_of, stop_of
from cortex.dialects.json_body import decode_body, wire_safe
from cortex.dialects.output_format import output_format_of
from cortex.dialects.reasoning import reasoning_of
from cortex.dialects.sampling import sampling_of
from cortex.errors import BadRequest, UnsupportedValue
from cortex.wire.inference import (
    InferenceRequest,
    Message,
    Reasoning,
    Tool,
    ToolCall,
    ToolChoice,
)

__all__ = ["parse_count_tokens", "parse_messages"]

logger = logging.getLogger(__name__)

_BODY = msgspec.json.Decoder(MessagesBody)
_CONTEXT_SUFFIX = re.compile(r"\[\d+[km]\]$", re.IGNORECASE)


def parse_messages(body: bytes, context: CallContext, *, normalise_billing: bool = True) -> Call:
    """A call for one message. Raises BadRequest, UnsupportedValue, and ModelNotFound from `context.resolve`."""
    decoded = decode_body(_BODY, body)
    request = _request(decoded, context, normalise_billing=normalise_billing)
    hidden = isinstance(decoded.thinking, ThinkingConfig) and decoded.thinking.display == "omitted"
    head = MessageHead.of(context.request_id, decoded.model, thinking_hidden=hidden)
    return Call(
        requests=[request],
        stream=bool(decoded.stream),
        renderer=partial(MessageRenderer, context.echo or context.request_id, head),
        collector=partial(MessageCollector, head),
        keepalive_s=decoded.sse_ping_interval,
    )


def parse_count_tokens(body: bytes, context: CallContext, *, normalise_billing: bool = True) -> Call:
    """A call for the token count: the request of `parse_messages`, ended after tokenising, so that the counts agree.
    Raises like `parse_messages`."""
    decoded = decode_body(_BODY, body)
    request = _request(decoded, context, normalise_billing=normalise_billing)
    head = MessageHead.of(context.request_id, decoded.model)
    return Call(
        requests=[msgspec.structs.replace(request, count_only=True)],
        stream=False,
        renderer=partial(MessageRenderer, context.echo or context.request_id, head),
        collector=CountCollector,
    )


def _request(body: MessagesBody, context: CallContext, *, normalise_billing: bool) -> InferenceRequest:
    if (body.n or 1) > 1:
        raise UnsupportedValue("a message is one answer: n must be 1", param="n")
    messages = _messages(body, context, normalise_billing=normalise_billing)
    tools = [tool for each in body.tools or [] if (tool := _tool(each.native))]
    return InferenceRequest(
        id=context.request_id,
        model=context.resolve(_CONTEXT_SUFFIX.sub("", body.model)),
        messages=messages,
        continue_final=messages[-1].role == "assistant",
        tools=tools,
        tool_choice=_tool_choice(body.tool_choice, tools),
        parallel=False if body.tool_choice and body.tool_choice.disable_parallel_tool_use else None,
        format=output_format_of(body, tools),
        sampling=sampling_of(body),
        stop=stop_of(body),
        max_output=max_output_of(body),
        reasoning=_reasoning(body),
        template_kwargs=wire_safe(body.chat_template_kwargs or {}, "chat_template_kwargs"),
        cache_key=_user_id(body.metadata) or body.prompt_cache_key,
        cache_prompt=body.cache_prompt is not False,
        principal=context.principal,
        dialect="anthropic_messages",
    )


def _messages(body: MessagesBody, context: CallContext, *, normalise_billing: bool) -> list[Message]:
    messages = read_messages(body.messages, context.images)
    if not messages:
        raise BadRequest("messages: at least one message with content is required", param="messages")
    if any(isinstance(part, ToolCall) for part in messages[-1].parts):
        raise BadRequest("messages: the last message calls tools and no tool_result follows", param="messages")
    return system_message(body.system, normalise_billing=normalise_billing) + messages


def _tool(body: ToolParam) -> Tool | None:
    """The wire tool; None for a server tool, which has no schema and would run on Anthropic's servers."""
    if body.input_schema is None:
        if body.type not in (None, "custom"):
            logger.debug("skipping server tool of type %s", body.type)
            return None
        raise BadRequest(f"tools: {body.name!r} has no input_schema", param="tools")
    if not body.name:
        raise BadRequest("tools: a tool has no name", param="tools")
    schema = wire_safe(body.input_schema, "tools")
    return Tool(body.name, body.description or "", schema, strict=bool(body.strict))


def _tool_choice(choice: ToolChoiceParam | None, tools: list[Tool]) -> ToolChoice:
    if choice is None:
        return ToolChoice()
    match choice.type:
        case "tool":
            if choice.name not in {tool.name for tool in tools}:
                raise BadRequest(f"tool_choice: no tool is named {choice.name!r}", param="tool_choice")
            return ToolChoice("required", [choice.name])
        case "any":
            # All tools may have been server tools, which are skipped: then no call can be required.
            return ToolChoice("required") if tools else ToolChoice()
        case mode:
            return ToolChoice(mode)


def _reasoning(body: MessagesBody) -> Reasoning:
    """The reasoning settings, with the budget kept below the output limit, as the API requires."""
    reasoning = reasoning_of(body)
    limit = max_output_of(body)
    if reasoning.budget is None or limit is None:
        return reasoning
    return msgspec.structs.replace(reasoning, budget=max(0, min(reasoning.budget, limit - 1)))


def _user_id(metadata: msgspec.Raw) -> str | None:
    """`metadata.user_id`, which names the session in Claude Code: a hint for prefix-cache affinity. Malformed metadata
    is ignored."""
    try:
        user_id = msgspec.json.decode(metadata, type=dict[str, object]).get("user_id")
    except msgspec.MsgspecError:
        return None
    return user_id if isinstance(user_id, str) else None
