"""Agent frameworks run a whole tool loop over each dialect: ask, call a tool, send its result, get an answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from pydantic_ai import Agent
from pydantic_ai.direct import model_request, model_request_stream
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, ThinkingPart, ToolCallPart
from pydantic_ai.models import Model

from cortex.wire.inference import InferenceRequest, Text, ToolCall, ToolResult
from tests.dialects.frameworks import gathered, get_weather, langchain_model, pydantic_model
from tests.dialects.scripted_server import ScriptedServer
from tests.dialects.scripts import SCRIPTS, Script, by_name

GOOD = [script for script in SCRIPTS if script.failure is None]


def check_second_question(request: InferenceRequest) -> None:
    """The framework gave back the call as it was made, and its tool's result behind it."""
    parts = [part for message in request.messages for part in message.parts]
    [call] = [part for part in parts if isinstance(part, ToolCall)]
    [result] = [part for part in parts if isinstance(part, ToolResult)]
    assert call.name == result.name == "get_weather"
    assert json.loads(call.arguments) == {"city": "Łódź"}
    assert call.id == result.call_id
    assert result.parts == [Text("21°")]


# ---- langchain


def langchain(server: ScriptedServer, *, responses: bool) -> Any:
    return langchain_model(server.base_url, "demo", responses=responses, http=server.client())


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "collected"])
@pytest.mark.parametrize("responses", [True, False], ids=["responses", "chat"])
def test_langchain_goes_through_a_tool_loop(responses: bool, streamed: bool) -> None:
    server = ScriptedServer(by_name("one_tool"), by_name("reasoning_text"))
    model = langchain(server, responses=responses)
    history: list[BaseMessage] = [HumanMessage("Hi")]
    asks = gathered(model.stream(history)) if streamed else model.invoke(history)
    assert isinstance(asks, AIMessage)
    [call] = asks.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Łódź"})
    history += [asks, ToolMessage(get_weather(**call["args"]), tool_call_id=call["id"])]
    answer = gathered(model.stream(history)) if streamed else model.invoke(history)
    assert answer.text == "Hello, wörld 🙂"
    check_second_question(server.asked[1])


READS: list[Callable[[Any], AIMessage]] = [lambda model: gathered(model.stream("Hi")), lambda model: model.invoke("Hi")]


@pytest.mark.parametrize("script", GOOD, ids=lambda script: script.name)
@pytest.mark.parametrize("read", READS, ids=["streamed", "collected"])
@pytest.mark.parametrize("responses", [True, False], ids=["responses", "chat"])
def test_langchain_reads_every_script(responses: bool, read: Callable[[Any], AIMessage], script: Script) -> None:
    message = read(langchain(ScriptedServer(script), responses=responses))
    assert message.text == script.text
    calls = [(call["name"], call["args"]) for call in message.tool_calls]
    assert calls == [(name, json.loads(arguments)) for name, arguments in script.calls]


# ---- pydantic-ai


def pydantic_ai(server: ScriptedServer, dialect: str) -> Model:
    return pydantic_model(server.base_url, "demo", dialect, http=server.async_client())


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "collected"])
@pytest.mark.parametrize("dialect", ["chat", "responses", "anthropic"])
async def test_pydantic_ai_goes_through_a_tool_loop(dialect: str, streamed: bool) -> None:
    server = ScriptedServer(by_name("one_tool"), by_name("reasoning_text"))
    agent = Agent(pydantic_ai(server, dialect), tools=[get_weather])
    if streamed:
        async with agent.run_stream("Hi") as running:
            output = await running.get_output()
    else:
        output = (await agent.run("Hi")).output
    assert output == "Hello, wörld 🙂"
    check_second_question(server.asked[1])


def said_by(response: ModelResponse) -> tuple[str, str, list[tuple[str, Any]]]:
    parts = response.parts
    return (
        "".join(part.content for part in parts if isinstance(part, TextPart)),
        "".join(part.content for part in parts if isinstance(part, ThinkingPart)),
        [(part.tool_name, part.args_as_dict()) for part in parts if isinstance(part, ToolCallPart)],
    )


@pytest.mark.parametrize("script", GOOD, ids=lambda script: script.name)
@pytest.mark.parametrize("dialect", ["chat", "responses", "anthropic"])
async def test_pydantic_ai_reads_every_script(dialect: str, script: Script) -> None:
    expected = (script.text, script.reasoning, [(name, json.loads(arguments)) for name, arguments in script.calls])
    question: list[ModelMessage] = [ModelRequest.user_text_prompt("Hi")]
    assert said_by(await model_request(pydantic_ai(ScriptedServer(script), dialect), question)) == expected
    async with model_request_stream(pydantic_ai(ScriptedServer(script), dialect), question) as running:
        async for _ in running:
            pass
        assert said_by(running.get()) == expected
