"""The table of inference endpoints: path, parser, body type and error encoder of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from msgspec import Struct

from cortex.config.settings import AnthropicConfig
from cortex.dialects.anthropic.body import MessagesBody
from cortex.dialects.anthropic.messages import parse_count_tokens, parse_messages
from cortex.dialects.anthropic.reply import anthropic_error
from cortex.dialects.base import Call, CallContext, ErrorEncoder
from cortex.dialects.openai.chat.request import ChatBody, parse_chat
from cortex.dialects.openai.completions.request import CompletionBody, parse_completions
from cortex.dialects.openai.embeddings import EmbeddingBody, parse_embeddings
from cortex.dialects.openai.objects import openai_error
from cortex.dialects.openai.rerank import RerankBody, parse_rerank

__all__ = ["Endpoint", "endpoints"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A route that runs requests. `name` is the dialect's name in records and metrics; `body` is the documented type of
    the request.

    The first path is the standard one. The others serve clients that call them: Zed's edit predictions omit `/v1`
    (zed#54804), and so do all whose base URL is configured without it; LM Studio's API has the prefix `/api/v0`.
    """

    name: str
    paths: tuple[str, ...]
    parse: Callable[[bytes, CallContext], Call]
    body: type[Struct]
    encode_error: ErrorEncoder = openai_error


def endpoints(config: Callable[[], AnthropicConfig]) -> list[Endpoint]:
    """All endpoints except the Responses API, which needs the response store (see `response_routes`). `config` gives
    the settings in force."""

    def messages(body: bytes, context: CallContext) -> Call:
        return parse_messages(body, context, normalise_billing=config().normalise_billing_header)

    def count_tokens(body: bytes, context: CallContext) -> Call:
        return parse_count_tokens(body, context, normalise_billing=config().normalise_billing_header)

    return [
        Endpoint(
            "openai_chat",
            ("/v1/chat/completions", "/chat/completions", "/api/v0/chat/completions"),
            parse_chat,
            ChatBody,
        ),
        Endpoint(
            "openai_completions",
            ("/v1/completions", "/completions", "/api/v0/completions"),
            parse_completions,
            CompletionBody,
        ),
        Endpoint(
            "openai_embeddings",
            ("/v1/embeddings", "/embeddings", "/api/v0/embeddings"),
            parse_embeddings,
            EmbeddingBody,
        ),
        Endpoint("rerank", ("/v1/rerank", "/rerank"), parse_rerank, RerankBody),
        Endpoint(
            "anthropic_messages",
            ("/v1/messages", "/messages"),
            messages,
            MessagesBody,
            anthropic_error,
        ),
        Endpoint(
            "anthropic_count_tokens",
            ("/v1/messages/count_tokens", "/messages/count_tokens"),
            count_tokens,
            MessagesBody,
            anthropic_error,
        ),
    ]
