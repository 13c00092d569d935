"""Which dialect answers on which path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from msgspec import Struct

from cortex.config.settings import AnthropicConfig
from cortex.dialects.anthropic import body as messages_body
from cortex.dialects.anthropic import messages
from cortex.dialects.anthropic.reply import anthropic_error
from cortex.dialects.base import Call, CallContext, ErrorEncoder
from cortex.dialects.openai import embeddings, rerank
from cortex.dialects.openai.chat import request as chat
from cortex.dialects.openai.completions import request as completions
from cortex.dialects.openai.envelope import openai_error

__all__ = ["Endpoint", "endpoints"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A route that runs requests. `name` is the dialect's word in records and metrics, `body` documents the request.

    The first path is the standard one; the others are what real clients also call: Zed's edit predictions leave out
    `/v1`, LM Studio's API lives under `/api/v0`.
    """

    name: str
    paths: tuple[str, ...]
    parse: Callable[[bytes, CallContext], Call]
    body: type[Struct]
    encode_error: ErrorEncoder = openai_error


def endpoints(config: AnthropicConfig) -> list[Endpoint]:
    """Every one but the Responses API, which has state."""
    billing = config.normalise_billing_header
    return [
        Endpoint(
            "openai_chat",
            ("/v1/chat/completions", "/chat/completions", "/api/v0/chat/completions"),
            chat.parse,
            chat.ChatBody,
        ),
        Endpoint(
            "openai_completions",
            ("/v1/completions", "/completions", "/api/v0/completions"),
            completions.parse,
            completions.CompletionBody,
        ),
        Endpoint(
            "openai_embeddings",
            ("/v1/embeddings", "/embeddings", "/api/v0/embeddings"),
            embeddings.parse,
            embeddings.EmbeddingBody,
        ),
        Endpoint("rerank", ("/v1/rerank", "/rerank"), rerank.parse, rerank.RerankBody),
        Endpoint(
            "anthropic_messages",
            ("/v1/messages",),
            partial(messages.parse_messages, normalise_billing=billing),
            messages_body.Body,
            anthropic_error,
        ),
        Endpoint(
            "anthropic_count_tokens",
            ("/v1/messages/count_tokens",),
            partial(messages.parse_count_tokens, normalise_billing=billing),
            messages_body.Body,
            anthropic_error,
        ),
    ]
