"""A call inside which the answer was cut never looks whole: its arguments end where the model was cut, and no client
runs it. Whole calls before it stay whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import openai
import pytest
from pydantic_ai import Agent
from pydantic_ai.exceptions import IncompleteToolCall, OutputTokenLimitExceeded

from tests.dialects.adapters_anthropic import ANTHROPIC_MESSAGES
from tests.dialects.adapters_openai import OPENAI_CHAT
from tests.dialects.adapters_responses import OPENAI_RESPONSES
from tests.dialects.cut_files import CUTS, Disk, write_cut
from tests.dialects.expectations import READERS
from tests.dialects.frameworks import gathered, langchain_model, pydantic_model
from tests.dialects.harness import Dialect, collect, stream
from tests.dialects.readers import bodies
from tests.dialects.readers.frames import Said
from tests.dialects.scripted_server import ScriptedServer
from tests.dialects.scripts import CUT_SCRIPTS, Script, by_name
from tests.dialects.sdk import anthropic_client, openai_client

FUNCTIONS = [script for script in CUT_SCRIPTS if script.tool_kind == "function"]
CUSTOM = by_name("length_in_custom")
QUESTION: dict[str, Any] = {"role": "user", "content": "Hi"}


# ---- what clients read


@pytest.mark.parametrize("script", FUNCTIONS, ids=lambda script: script.name)
@pytest.mark.parametrize("name", READERS)
def test_a_client_gets_the_arguments_as_far_as_they_came(name: str, script: Script) -> None:
    dialect, read = READERS[name]
    said = read(stream(dialect, script))
    assert said.end in ("length", "max_tokens", "max_output_tokens")
    assert said.text == script.text
    if name == "zed-chat":  # looks at no call unless told that calls ended the answer
        assert (said.calls, said.unreadable) == ([], [])
    else:
        assert (said.calls, said.unreadable) == (script.calls, script.cut_calls)


@pytest.mark.parametrize(
    ("dialect", "read"), [(OPENAI_CHAT, bodies.read_chat_body), (OPENAI_RESPONSES, bodies.read_responses_body)]
)
@pytest.mark.parametrize("script", FUNCTIONS, ids=lambda script: script.name)
def test_openais_bodies_hold_the_cut_string(dialect: Dialect, read: Callable[[bytes], Said], script: Script) -> None:
    said = read(collect(dialect, script))
    assert (said.calls, said.unreadable) == (script.calls, script.cut_calls)


@pytest.mark.parametrize("script", FUNCTIONS, ids=lambda script: script.name)
def test_an_anthropic_body_has_a_tool_use_only_for_whole_input(script: Script) -> None:
    said = bodies.read_anthropic_body(collect(ANTHROPIC_MESSAGES, script))
    assert [(name, json.loads(text)) for name, text in said.calls] == [(n, json.loads(t)) for n, t in script.calls]
    assert said.end == "max_tokens"


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "collected"])
@pytest.mark.parametrize("script", CUT_SCRIPTS, ids=lambda script: script.name)
def test_a_cut_call_is_an_incomplete_item_of_an_incomplete_response(script: Script, streamed: bool) -> None:
    if streamed:
        client = openai_client(stream(OPENAI_RESPONSES, script))
        with client.responses.create(model="demo", input="Hi", stream=True) as events:
            response = list(events)[-1].response
    else:
        response = openai_client(collect(OPENAI_RESPONSES, script)).responses.create(model="demo", input="Hi")
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    *whole, cut = response.output
    assert cut.status == "incomplete"
    assert all(item.status == "completed" for item in whole)


def test_the_openai_helper_refuses_a_cut_answer() -> None:
    body = stream(OPENAI_CHAT, by_name("length_mid_json"))
    streaming = openai_client(body).chat.completions.stream(model="demo", messages=[QUESTION])  # type: ignore[list-item]
    with streaming as events, pytest.raises(openai.LengthFinishReasonError):
        events.get_final_completion()


def test_a_cut_free_form_input_ends_where_the_model_was_cut_and_is_never_done() -> None:
    cut = "*** Begin Patch\n*** Add File: caf"
    [call] = json.loads(collect(OPENAI_CHAT, CUSTOM))["choices"][0]["message"]["tool_calls"]
    assert call["custom"]["input"] == cut
    [item] = json.loads(collect(OPENAI_RESPONSES, CUSTOM))["output"]
    assert (item["input"], item["status"]) == (cut, "incomplete")
    streamed = stream(OPENAI_RESPONSES, CUSTOM)
    assert b"custom_tool_call_input.delta" in streamed
    assert b"custom_tool_call_input.done" not in streamed
    assert b"output_item.done" not in streamed


def test_anthropics_stream_ends_the_block_without_closing_its_json() -> None:
    body = stream(ANTHROPIC_MESSAGES, by_name("length_mid_json"))
    client = anthropic_client(body)
    raw = client.messages.create(model="demo", max_tokens=9, messages=[QUESTION], stream=True)  # type: ignore[list-item]
    pieces = [event.delta for event in raw if event.type == "content_block_delta"]
    assert "".join(piece.partial_json for piece in pieces if piece.type == "input_json_delta") == '{"city": "Łó'


# ---- what frameworks do


async def output(agent: Agent, *, streamed: bool) -> str:
    if not streamed:
        return (await agent.run("Hi")).output
    async with agent.run_stream("Hi") as running:
        return await running.get_output()


@pytest.mark.parametrize("arguments", CUTS)
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "collected"])
@pytest.mark.parametrize("dialect", ["chat", "responses", "anthropic"])
async def test_pydantic_ai_runs_no_cut_call(dialect: str, streamed: bool, arguments: str) -> None:
    disk = Disk()
    server = ScriptedServer(*[write_cut(arguments)] * 5)
    agent = Agent(pydantic_model(server.base_url, "demo", dialect, http=server.async_client()), tools=[disk.write_file])
    # A body without the tool use holds nothing at all.
    expected = IncompleteToolCall if dialect != "anthropic" or streamed else OutputTokenLimitExceeded
    with pytest.raises(expected):
        await output(agent, streamed=streamed)
    assert disk.written == []


@pytest.mark.parametrize("arguments", CUTS)
@pytest.mark.parametrize("responses", [True, False], ids=["responses", "chat"])
def test_langchain_has_no_tool_call_of_a_cut_one(responses: bool, arguments: str) -> None:
    server = ScriptedServer(write_cut(arguments))
    message = langchain_model(server.base_url, "demo", responses=responses, http=server.client()).invoke("Hi")
    assert message.tool_calls == []
    assert [call["name"] for call in message.invalid_tool_calls] == ["write_file"]


@pytest.mark.parametrize("responses", [True, False], ids=["responses", "chat"])
def test_langchain_knows_from_a_stream_that_it_was_cut(responses: bool) -> None:
    """Its chunks complete any half JSON themselves, whoever sends it, so the reason is all that tells."""
    server = ScriptedServer(write_cut(CUTS[0]))
    model = langchain_model(server.base_url, "demo", responses=responses, http=server.client())
    message = gathered(model.stream("Hi"))
    [chunk] = message.tool_call_chunks
    assert chunk["args"] == CUTS[0]
    why = message.response_metadata
    assert (why["incomplete_details"]["reason"] if responses else why["finish_reason"]) in (
        "length",
        "max_output_tokens",
    )
