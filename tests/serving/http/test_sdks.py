"""The official SDKs, unmodified, against the application on a socket."""

from __future__ import annotations

from typing import Any

import anthropic
import openai
import pytest

from cortex.config.settings import AuthConfig, Config
from cortex.errors import Overloaded
from cortex.wire.events import (
    ChoiceFinished,
    Embedded,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallArguments,
    ToolCallEnd,
    ToolCallStart,
    Usage,
    failed,
)
from cortex.wire.inference import EmbeddingRequest, Request
from tests.serving.conftest import Running, Serve
from tests.serving.fake_backend import FakeBackend, Pause

TOOL: Any = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
MESSAGES: Any = [{"role": "user", "content": "hi"}]


def thinking_then_call(request: Request) -> list[Any]:
    if isinstance(request, EmbeddingRequest):
        vectors = [Embedded(index, b"\0\0\x80?\0\0\0\0") for index in range(len(request.inputs))]
        return [[Started(4)], [*vectors, Finished(Usage(4))]]
    return [
        [Started(12, 4)],
        [ReasoningDelta("let me see")],
        [TextDelta("Looking"), TextDelta(" it up.")],
        [ToolCallStart(0, "call_1", "weather"), ToolCallArguments(0, '{"city":')],
        [ToolCallArguments(0, '"Oslo"}'), ToolCallEnd(0)],
        [ChoiceFinished("tool_calls"), Finished(Usage(12, 4, 9, 3))],
    ]


def openai_client(running: Running, **more: Any) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="sk-test", max_retries=0, **more)


async def test_openai_chat_answers_and_streams_alike(serve: Serve) -> None:
    async with serve(FakeBackend(thinking_then_call)) as running, openai_client(running) as client:
        whole = await client.chat.completions.create(model="demo", messages=MESSAGES, tools=[TOOL])
        async with client.chat.completions.stream(
            model="demo", messages=MESSAGES, tools=[TOOL], stream_options={"include_usage": True}
        ) as stream:
            final = await stream.get_final_completion()
    for completion in (whole, final):
        message = completion.choices[0].message
        assert message.content == "Looking it up."
        assert message.tool_calls
        call = message.tool_calls[0]
        assert call.type == "function"
        assert (call.id, call.function.name, call.function.arguments) == ("call_1", "weather", '{"city":"Oslo"}')
        assert completion.choices[0].finish_reason == "tool_calls"
        assert completion.usage
        assert completion.usage.total_tokens == 21


async def test_openai_embeddings_default_to_base64_and_come_back_as_numbers(serve: Serve) -> None:
    async with serve(FakeBackend(thinking_then_call)) as running, openai_client(running) as client:
        answer = await client.embeddings.create(model="demo", input=["a", "b"])
    assert [item.embedding for item in answer.data] == [[1.0, 0.0], [1.0, 0.0]]


async def test_openai_lists_and_retrieves_models(serve: Serve) -> None:
    async with serve() as running, openai_client(running) as client:
        models = [model async for model in client.models.list()]
        one = await client.models.retrieve("acme/demo-1B")
    assert [model.id for model in models] == [one.id] == ["acme/demo-1B"]


async def test_openai_sees_typed_errors(serve: Serve) -> None:
    config = Config(auth=AuthConfig(keys=["sk-test"]))
    refusing = FakeBackend(lambda _: [[failed(Overloaded("full", retry_after=1))]])
    async with serve(refusing, config) as running, openai_client(running) as client:
        with pytest.raises(openai.NotFoundError, match="there is no model 'nope'"):
            await client.chat.completions.create(model="nope", messages=MESSAGES)
        with pytest.raises(openai.InternalServerError, match="full"):
            await client.chat.completions.create(model="demo", messages=MESSAGES, stream=True)
        with pytest.raises(openai.AuthenticationError):
            await client.with_options(api_key="wrong").models.list()


async def test_openai_raises_on_an_error_in_the_stream(serve: Serve) -> None:
    backend = FakeBackend(lambda _: [[Started(1)], [TextDelta("a")], [failed(Overloaded("lost it"))]])
    async with serve(backend) as running, openai_client(running) as client:
        stream = await client.chat.completions.create(model="demo", messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIError, match="lost it"):
            async for _ in stream:
                pass


async def test_closing_an_openai_stream_cancels_the_request(serve: Serve) -> None:
    pause = Pause()
    backend = FakeBackend(lambda _: [[Started(1)], [TextDelta("a")], pause])
    async with serve(backend) as running, openai_client(running) as client:
        stream = await client.chat.completions.create(model="demo", messages=MESSAGES, stream=True)
        await pause.reached.wait()
        await stream.close()
        await backend.ended.wait()
    assert backend.cancelled


async def test_anthropic_messages_answer_and_stream_alike(serve: Serve) -> None:
    tool: Any = {"name": "weather", "input_schema": {"type": "object"}}
    async with (
        serve(FakeBackend(thinking_then_call)) as running,
        anthropic.AsyncAnthropic(base_url=running.url, api_key="sk-test", max_retries=0) as client,
    ):
        whole = await client.messages.create(model="demo", max_tokens=50, messages=MESSAGES, tools=[tool])
        async with client.messages.stream(model="demo", max_tokens=50, messages=MESSAGES, tools=[tool]) as stream:
            final = await stream.get_final_message()
        models = [model async for model in client.models.list()]
    for message in (whole, final):
        assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
        assert message.stop_reason == "tool_use"
        assert message.usage.input_tokens == 8
    assert models[0].display_name == "demo-1B"


async def test_anthropic_sees_typed_errors(serve: Serve) -> None:
    async with (
        serve() as running,
        anthropic.AsyncAnthropic(base_url=running.url, api_key="sk-test", max_retries=0) as client,
    ):
        with pytest.raises(anthropic.NotFoundError) as caught:
            await client.messages.create(model="nope", max_tokens=5, messages=MESSAGES)
    assert caught.value.request_id
