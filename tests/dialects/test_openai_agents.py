"""OpenAI's agents SDK runs a tool loop over both of OpenAI's APIs, and runs no call that was cut."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.dialects.cut_files import CUTS, Disk, write_cut
from tests.dialects.frameworks import get_weather
from tests.dialects.scripted_server import ScriptedServer
from tests.dialects.scripts import by_name

agents = pytest.importorskip("agents", reason="openai-agents is not installed")


def agent(server: ScriptedServer, tool: Any, *, responses: bool) -> Any:
    agents.set_tracing_disabled(True)  # a run is otherwise reported to OpenAI
    http = server.async_client()
    client = openai.AsyncOpenAI(api_key="k", base_url=f"{server.base_url}/v1", max_retries=0, http_client=http)
    kind = agents.OpenAIResponsesModel if responses else agents.OpenAIChatCompletionsModel
    return agents.Agent("writer", model=kind("demo", openai_client=client), tools=[agents.function_tool(tool)])


async def output(agent: Any, *, streamed: bool) -> str:
    if not streamed:
        return str((await agents.Runner.run(agent, "Hi")).final_output)
    running = agents.Runner.run_streamed(agent, "Hi")
    async for _ in running.stream_events():
        pass
    return str(running.final_output)


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "collected"])
@pytest.mark.parametrize("responses", [True, False], ids=["responses", "chat"])
async def test_a_whole_call_is_run(responses: bool, streamed: bool) -> None:
    server = ScriptedServer(by_name("one_tool"), by_name("plain"))
    assert await output(agent(server, get_weather, responses=responses), streamed=streamed) == "Hello, wörld 🙂"


@pytest.mark.parametrize("arguments", CUTS)
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "collected"])
async def test_in_chat_the_model_is_told_of_a_cut_call(streamed: bool, arguments: str) -> None:
    disk = Disk()
    server = ScriptedServer(write_cut(arguments), by_name("plain"))
    assert await output(agent(server, disk.write_file, responses=False), streamed=streamed) == "Hello, wörld 🙂"
    assert disk.written == []


@pytest.mark.parametrize("arguments", CUTS)
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "collected"])
async def test_an_incomplete_response_ends_the_run(streamed: bool, arguments: str) -> None:
    disk = Disk()
    server = ScriptedServer(write_cut(arguments))
    with pytest.raises(agents.ModelBehaviorError, match="incomplete"):
        await output(agent(server, disk.write_file, responses=True), streamed=streamed)
    assert disk.written == []
