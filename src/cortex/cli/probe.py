"""`cortex models probe FILE`: the chat formats that are detected in a GGUF file, with the evidence."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from cortex.cli.options import Json
from cortex.cli.output import print_json, print_table, reports_errors
from cortex.cli.tables import table_of
from cortex.errors import DeadlineExceeded, ModelLoadFailed
from cortex.wire.worker import ProbeReport

__all__ = ["probe"]

_TIMEOUT_S = 120.0
_PLAIN = {"True": "yes", "False": "no", "None": "none", "()": "none"}
"""Python values in the report, in words."""


@reports_errors
def probe(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A GGUF file.")],
    template: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Chat template to use instead of the file's own.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show which reasoning and tool-call formats are detected in a model file, and by which evidence."""
    report = msgspec.json.decode(_run(file, template), type=ProbeReport)
    if as_json:
        print_json(report)
    else:
        print_table(table_of(("model", report.model), _facts(report)))


def _run(file: Path, template: Path | None) -> bytes:
    """The engine's own program, since only the engine may load llama.cpp."""
    from cortex.neuron.workers.spawn import python_command

    command = python_command("cortex.engine.tools.gguf_report", str(file))
    command += ["--template", str(template)] if template else []
    try:
        # Fixed arguments and the caller's own paths, no shell.
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise DeadlineExceeded(f"{file} was not read within {_TIMEOUT_S:.0f} s") from error
    if done.returncode:
        # the last line is the error message; llama.cpp's own output comes before it
        raise ModelLoadFailed(done.stderr.decode(errors="replace").strip().splitlines()[-1])
    return done.stdout


def _facts(report: ProbeReport) -> Iterator[tuple[str, str]]:
    yield "reasoning", report.reasoning_format or "none"
    yield "tool calls", report.tool_format or "none (requests with tools get a generic format, explained in the prompt)"
    yield "self-test", report.self_test or "not run: the template renders no tool call"
    for line in report.evidence:
        yield "evidence", line
    for name, value in report.template.items():
        yield f"template: {name.replace('_', ' ')}", _PLAIN.get(value, value or "none")
