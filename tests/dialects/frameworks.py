"""Agent frameworks pointed at a server, real or in memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import anthropic
import httpx2
import openai
from langchain_core.messages import AIMessageChunk
from langchain_openai import ChatOpenAI
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

__all__ = ["gathered", "get_weather", "langchain_model", "pydantic_model"]


def get_weather(city: str) -> str:
    """Tells the weather in a city."""
    assert city == "Łódź"
    return "21°"


def langchain_model(url: str, model: str, *, responses: bool, http: httpx2.Client | None = None) -> Any:
    chat = ChatOpenAI(
        model=model,
        api_key="k",  # type: ignore[arg-type]
        base_url=f"{url}/v1",
        max_retries=0,
        use_responses_api=responses,
        http_client=http,
    )
    return chat.bind_tools([get_weather])


def gathered(chunks: Iterable[Any]) -> AIMessageChunk:
    """A langchain stream as the one message that its chunks add up to."""
    whole: AIMessageChunk | None = None
    for chunk in chunks:
        whole = chunk if whole is None else whole + chunk
    assert whole is not None
    return whole


def pydantic_model(url: str, model: str, dialect: str, http: httpx2.AsyncClient | None = None) -> Model:
    """`dialect`: chat, responses or anthropic."""
    if dialect == "anthropic":
        client = anthropic.AsyncAnthropic(api_key="k", base_url=url, max_retries=0, http_client=http)
        return AnthropicModel(model, provider=AnthropicProvider(anthropic_client=client))
    from_openai = openai.AsyncOpenAI(api_key="k", base_url=f"{url}/v1", max_retries=0, http_client=http)
    provider = OpenAIProvider(openai_client=from_openai)
    return (
        OpenAIChatModel(model, provider=provider)
        if dialect == "chat"
        else OpenAIResponsesModel(model, provider=provider)
    )
