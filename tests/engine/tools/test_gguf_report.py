"""`python -m cortex.engine.tools.gguf_report` and `cortex models probe`, on real tokenizers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from cortex.cli.app import app
from cortex.wire.worker import ProbeReport
from tests.scripted import build_scripted
from tests.templates import template, vocabulary_gguf

pytestmark = pytest.mark.model


def probe(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cortex.engine.tools.gguf_report", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("vocabulary", "reasoning", "tools"),
    [("qwen2", None, None), ("gemma-4", "channel_thought", "gemma4"), ("command-r", None, "command_r")],
)
def test_real_tokenizers_and_their_own_templates(vocabulary: str, reasoning: str | None, tools: str | None) -> None:
    done = probe(str(vocabulary_gguf(vocabulary)))
    assert done.returncode == 0, done.stderr
    report = msgspec.json.decode(done.stdout, type=ProbeReport)
    assert (report.reasoning_format, report.tool_format) == (reasoning, tools)


def test_a_template_from_a_file_replaces_the_ggufs(tmp_path: Path) -> None:
    path = tmp_path / "t.jinja"
    path.write_text(template("Qwen-Qwen3-0.6B.jinja"))
    done = probe(str(vocabulary_gguf("qwen2")), "--template", str(path))
    report = msgspec.json.decode(done.stdout, type=ProbeReport)
    assert (report.reasoning_format, report.tool_format) == ("think", "hermes")
    assert report.self_test.startswith("passed: 2")


def test_a_file_that_is_no_gguf_is_named_with_llama_cpps_reason(tmp_path: Path) -> None:
    path = tmp_path / "no.gguf"
    path.write_text("# no")
    done = probe(str(path))
    assert done.returncode == 6
    assert "can't read" in done.stderr
    assert "invalid magic" in done.stderr


def test_the_command_shows_format_evidence_and_self_test(tmp_path: Path) -> None:
    path = build_scripted(tmp_path / "m.gguf", {"<|go|>": ["x"]}, template=template("Qwen-Qwen3-0.6B.jinja"))
    result = CliRunner().invoke(app, ["models", "probe", str(path)])
    assert result.exit_code == 0, result.output
    for word in ("hermes", "think", "evidence", "passed: 2"):
        assert word in result.output
