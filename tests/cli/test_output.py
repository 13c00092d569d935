"""Lines, tables, JSON and errors on stdout and stderr."""

from __future__ import annotations

import pytest
import typer

from cortex.cli.output import print_error, print_json, print_line, print_table, reports_errors
from cortex.cli.tables import table_of
from cortex.errors import CortexError, ModelLoadFailed, NotFound

BRACKETS = "[/x] [red]model[/]"
"""What rich would take for markup: the first half once ended in a traceback."""


@pytest.fixture(autouse=True)
def no_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)


def test_names_in_brackets_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(BRACKETS)
    print_line(BRACKETS)
    print_table(table_of(("model",), [(BRACKETS,)]))
    out, err = capsys.readouterr()
    assert err == f"cortex: {BRACKETS}\n"
    assert [line.rstrip() for line in out.splitlines()] == [BRACKETS, "model", BRACKETS]


def test_into_a_pipe_nothing_is_cut_or_folded(capsys: pytest.CaptureFixture[str]) -> None:
    """grep can't find a name that was cut to the width of a terminal."""
    name = "org/" + "a-long-name-" * 12 + "GGUF"
    print_error(f"{name} failed")
    print_table(table_of(("model", "state"), [(name, "ready")]))
    out, err = capsys.readouterr()
    assert f"{name} failed" in err
    assert f"{name}  ready" in out


def test_documents_and_answers_look_alike(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": 1})
    print_json(b'{"a":1}')
    first, second = capsys.readouterr().out.split("}\n")[:2]
    assert first == second == '{\n  "a": 1\n'


@pytest.mark.parametrize(("error", "code"), [(NotFound("x"), 4), (ModelLoadFailed("x"), 6), (CortexError("x"), 1)])
def test_an_error_is_its_exit_code(error: CortexError, code: int) -> None:
    @reports_errors
    def command() -> None:
        raise error

    with pytest.raises(typer.Exit) as ended:
        command()
    assert ended.value.exit_code == code
