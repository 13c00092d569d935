"""The examples: files parse and point to the right place, programs run against the application."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from cortex.config.settings import GatewayConfig
from cortex.wire.events import (
    ChoiceFinished,
    Embedded,
    Finished,
    Started,
    ToolCallArguments,
    ToolCallEnd,
    ToolCallStart,
    Usage,
)
from cortex.wire.inference import EmbeddingRequest, InferenceRequest, Request
from tests.serving.conftest import Running, Serve
from tests.serving.fake_backend import FakeBackend, plain

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(path for path in EXAMPLES.rglob("*") if path.is_file())
URL = f"http://{GatewayConfig().listen}"


def rivers(request: Request) -> list[Any]:
    """Answers in words, but to the question about the weather: that takes the tool first."""
    if isinstance(request, EmbeddingRequest):
        return [[Started(2)], [Embedded(0, b"\0\0\x80?"), Embedded(1, b"\0\0\x80?"), Finished(Usage(2))]]
    assert isinstance(request, InferenceRequest)
    if request.count_only:
        return [[Started(11), Finished(Usage(11))]]
    if request.tools and request.messages[-1].role == "user":
        call = [ToolCallStart(0, "call_1", "weather"), ToolCallArguments(0, '{"city":"Oslo"}'), ToolCallEnd(0)]
        return [[Started(11)], [*call, ChoiceFinished("tool_calls"), Finished(Usage(11, 0, 9))]]
    return plain("Rhine, ", "Elbe, ", "Oder")


async def run(running: Running, *command: str) -> str:
    environment = {**os.environ, "CORTEX_URL": running.url, "CORTEX_MODEL": "demo", "CORTEX_API_KEY": "sk-x"}
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, output.decode()
    return output.decode()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_every_file_parses(path: Path) -> None:
    text = path.read_text()
    match path.suffix:
        case ".json":
            json.loads(text)
        case ".toml":
            tomllib.loads(text)
        case ".yaml" | ".yml":
            yaml.safe_load(text)
        case ".py":
            compile(text, str(path), "exec")
        case suffix:
            assert suffix in {".sh", ".env", ".md"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_every_file_points_to_the_gateways_default_address(path: Path) -> None:
    if path.name != ".aider.model.metadata.json":
        assert URL in path.read_text()


def test_every_client_is_listed() -> None:
    listed = (EXAMPLES / "README.md").read_text()
    for directory in EXAMPLES.iterdir():
        if directory.is_dir():
            assert f"`{directory.name}/" in listed


def test_zed_finds_the_provider_its_agent_uses() -> None:
    settings = json.loads((EXAMPLES / "zed" / "settings.json").read_text())
    default = settings["agent"]["default_model"]
    provider = settings["language_models"]["openai_compatible"][default["provider"]]
    assert default["model"] in [model["name"] for model in provider["available_models"]]


def test_codex_finds_the_provider_and_speaks_responses() -> None:
    config = tomllib.loads((EXAMPLES / "codex" / "config.toml").read_text())
    assert config["model_providers"][config["model_provider"]]["wire_api"] == "responses"


def test_opencode_finds_its_model() -> None:
    config = json.loads((EXAMPLES / "opencode" / "opencode.json").read_text())
    provider, model = config["model"].split("/")
    assert model in config["provider"][provider]["models"]


async def test_claude_codes_environment_can_be_sourced() -> None:
    script = f'set -a; . {EXAMPLES}/claude-code/cortex.env; echo "$ANTHROPIC_BASE_URL $ANTHROPIC_AUTH_TOKEN"'
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", script, env={"CORTEX_API_KEY": "sk-x"}, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert output.decode().split() == [URL, "sk-x"]


async def test_the_openai_program_runs(serve: Serve) -> None:
    async with serve(FakeBackend(rivers)) as running:
        output = await run(running, sys.executable, str(EXAMPLES / "python" / "openai_sdk.py"))
    assert output == "Rhine, Elbe, Oder\n" * 3


async def test_the_anthropic_program_runs(serve: Serve) -> None:
    async with serve(FakeBackend(rivers)) as running:
        output = await run(running, sys.executable, str(EXAMPLES / "python" / "anthropic_sdk.py"))
    assert output == "11 tokens in\nRhine, Elbe, Oder\n3 tokens out\n"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("chat.sh", "data: [DONE]"),
        ("messages.sh", '{"input_tokens":11}'),
        ("models.sh", "acme/demo-1B"),
        ("responses.sh", "event: response.completed"),
        ("embeddings.sh", '"embedding":[1.0]'),
        ("image.sh", "Rhine, Elbe, Oder"),
    ],
)
async def test_the_curl_commands_run(serve: Serve, script: str, expected: str) -> None:
    async with serve(FakeBackend(rivers)) as running:
        assert expected in await run(running, "sh", str(EXAMPLES / "curl" / script))


def test_every_curl_command_is_run_here() -> None:
    assert {path.name for path in (EXAMPLES / "curl").iterdir()} == {
        "chat.sh",
        "messages.sh",
        "models.sh",
        "responses.sh",
        "embeddings.sh",
        "image.sh",
    }
