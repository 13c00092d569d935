"""Tool-calling loops of real client libraries over HTTP, with both roles."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage
from pydantic_ai import Agent

from tests.dialects.frameworks import gathered, get_weather, langchain_model, pydantic_model
from tests.dialects.readers import codex
from tests.dialects.readers.frames import frames
from tests.e2e.agent import ANSWER, GREETING, THOUGHT, build_agent
from tests.e2e.conftest import Fleet, Launcher
from tests.e2e.processes import Daemon

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CITY = {"city": "Łódź"}
HI: list[Any] = [{"role": "user", "content": "How is the weather?"}]


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    directory = tmp_path_factory.mktemp("agents")
    build_agent(directory / "models" / "agent.gguf")
    launcher = Launcher(directory, [])
    try:
        neuron = launcher.neuron(directory / "models", neuron={"cpu_memory": "1GiB"})
        yield Fleet(launcher.gateway(neuron), neuron)
    finally:
        launcher.stop()


@pytest.fixture(params=["gateway", "neuron"])
def agent(request: pytest.FixtureRequest, agents: Fleet) -> Daemon:
    return agents.at(request.param)


@pytest.fixture
def from_openai(agent: Daemon) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{agent.url}/v1", api_key="k", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture
def from_anthropic(agent: Daemon) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=agent.url, api_key="k", max_retries=0, timeout=60) as client:
        yield client


# ---- the official SDKs


def test_chat_goes_through_a_tool_loop(from_openai: openai.OpenAI) -> None:
    function = {"name": "get_weather", "parameters": SCHEMA}
    options: dict[str, Any] = {"model": "agent", "tools": [{"type": "function", "function": function}]}
    with from_openai.chat.completions.stream(messages=HI, **options) as events:
        choice = events.get_final_completion().choices[0]
    [call] = choice.message.tool_calls or []
    assert (choice.finish_reason, call.function.name, json.loads(call.function.arguments)) == (
        ("tool_calls", "get_weather", CITY)
    )
    assert getattr(choice.message, "reasoning_content", "").strip() == THOUGHT
    asked = choice.message.model_dump(exclude_none=True, include={"role", "content", "tool_calls", "reasoning_content"})
    answered = {"role": "tool", "tool_call_id": call.id, "content": "21°"}
    reply = from_openai.chat.completions.create(messages=[*HI, asked, answered], **options)
    assert reply.choices[0].message.content == ANSWER


def test_responses_go_through_a_tool_loop_on_stored_state(from_openai: openai.OpenAI) -> None:
    tools: list[Any] = [{"type": "function", "name": "get_weather", "parameters": SCHEMA, "strict": False}]
    with from_openai.responses.stream(model="agent", input=HI, tools=tools) as events:
        first = events.get_final_response()
    reasoning, call = first.output
    assert reasoning.type == "reasoning"
    assert reasoning.summary[0].text.strip() == THOUGHT
    assert call.type == "function_call"
    assert json.loads(call.arguments) == CITY
    output: list[Any] = [{"type": "function_call_output", "call_id": call.call_id, "output": "21°"}]
    second = from_openai.responses.create(model="agent", input=output, tools=tools, previous_response_id=first.id)
    assert second.output_text == ANSWER
    assert second.usage is not None
    assert second.usage.input_tokens_details.cached_tokens > 0


def test_a_stored_response_can_be_read_and_deleted(from_openai: openai.OpenAI) -> None:
    made = from_openai.responses.create(model="agent", input="Hi")
    assert made.output_text == GREETING
    assert from_openai.responses.retrieve(made.id).to_dict() == made.to_dict()
    from_openai.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        from_openai.responses.retrieve(made.id)
    with pytest.raises(openai.BadRequestError, match="not stored here"):
        from_openai.responses.create(model="agent", input="And?", previous_response_id=made.id)


def test_messages_go_through_a_tool_loop(from_anthropic: anthropic.Anthropic) -> None:
    tools: list[Any] = [{"name": "get_weather", "description": "", "input_schema": SCHEMA}]
    options: dict[str, Any] = {"model": "agent", "max_tokens": 100, "tools": tools}
    with from_anthropic.messages.stream(messages=HI, **options) as events:
        asked = events.get_final_message()
    thinking, call = asked.content
    assert thinking.type == "thinking"
    assert thinking.thinking.strip() == THOUGHT
    assert call.type == "tool_use"
    assert (asked.stop_reason, call.name, call.input) == ("tool_use", "get_weather", CITY)
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "21°"}]}
    history = [*HI, {"role": "assistant", "content": asked.content}, {"role": "user", "content": [result]}]
    reply = from_anthropic.messages.create(messages=history, **options)
    [text] = reply.content
    assert (text.type == "text" and text.text) == ANSWER
    assert (reply.usage.cache_read_input_tokens or 0) > 0


def test_counted_tokens_are_those_of_the_real_request(from_anthropic: anthropic.Anthropic) -> None:
    tools: list[Any] = [{"name": "get_weather", "description": "Tells it.", "input_schema": SCHEMA}]
    question: dict[str, Any] = {"model": "agent", "messages": HI, "system": "Be brief.", "tools": tools}
    counted = from_anthropic.messages.count_tokens(**question).input_tokens
    usage = from_anthropic.messages.create(max_tokens=5, **question).usage
    assert counted == usage.input_tokens + (usage.cache_read_input_tokens or 0)
    assert counted > from_anthropic.messages.count_tokens(model="agent", messages=HI).input_tokens


def test_a_named_tool_is_called_whatever_the_model_wanted(from_anthropic: anthropic.Anthropic) -> None:
    tools: list[Any] = [{"name": name, "input_schema": {"type": "object", "properties": {}}} for name in ("a", "b")]
    choice: Any = {"type": "tool", "name": "b"}
    reply = from_anthropic.messages.create(model="agent", max_tokens=60, messages=HI, tools=tools, tool_choice=choice)
    calls = [block for block in reply.content if block.type == "tool_use"]
    assert [(call.name, call.input) for call in calls] == [("b", {})]


def test_a_turn_as_codex_takes_it(agent: Daemon) -> None:
    """Namespaced, free-form and hosted tools side by side; notes within the list; reasoning sent back encrypted."""
    member = {"type": "function", "name": "get_weather", "strict": False, "parameters": SCHEMA}
    patch = {"type": "custom", "name": "apply_patch", "description": "Edits.", "format": {"type": "text"}}
    tools = [{"type": "namespace", "name": "mcp__sky", "tools": [member]}, patch, {"type": "web_search"}, member]
    note = {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]}
    question = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "How is the weather?"}]}
    body = {
        "model": "agent",
        "instructions": "You are an agent.",
        "input": [note, question, note],
        "tools": tools,
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "reasoning": {"effort": "medium", "summary": "auto"},
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "session",
    }
    items = done_items(agent, body)
    assert [item["type"] for item in items] == ["reasoning", "function_call"]
    output = {"type": "function_call_output", "call_id": items[1]["call_id"], "output": "21°"}
    [answer] = done_items(agent, body | {"input": [note, question, note, *items, output]})
    assert answer["content"][0]["text"] == ANSWER


def done_items(agent: Daemon, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The items of a streamed answer, from `output_item.done` as in Codex."""
    answer = agent.post("/v1/responses", body)
    codex.read_responses(answer.content)
    events = [json.loads(frame.data) for frame in frames(answer.content)]
    return [event["item"] for event in events if event["type"] == "response.output_item.done"]


# ---- agent frameworks


@pytest.mark.parametrize("responses", [True, False], ids=["responses", "chat"])
def test_langchain_goes_through_a_tool_loop(agent: Daemon, responses: bool) -> None:
    history: list[BaseMessage] = [HumanMessage("How is the weather?")]
    with httpx2.Client(timeout=60) as http:
        model = langchain_model(agent.url, "agent", responses=responses, http=http)
        asks = gathered(model.stream(history))
        [call] = asks.tool_calls
        history += [asks, ToolMessage(get_weather(**call["args"]), tool_call_id=call["id"])]
        assert gathered(model.stream(history)).text == ANSWER


@pytest.mark.parametrize("dialect", ["chat", "responses", "anthropic"])
async def test_pydantic_ai_goes_through_a_tool_loop(agent: Daemon, dialect: str) -> None:
    async with httpx2.AsyncClient(timeout=60) as http:
        runner = Agent(pydantic_model(agent.url, "agent", dialect, http), tools=[get_weather])
        assert (await runner.run("How is the weather?")).output == ANSWER
        async with runner.run_stream("How is the weather?") as running:
            assert await running.get_output() == ANSWER
