"""All loggers write to stderr, in one form."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from cortex import logs
from cortex.config.settings import LogConfig


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.root
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_off_a_terminal_both_kinds_of_logger_write_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(LogConfig())
    logging.getLogger("cortex.a").info("load %s", "ordered", extra={"model": "m"})
    structlog.get_logger("cortex.b").warning("load ordered", model="m")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["event"], first["level"], first["logger"], first["model"]) == (
        "load ordered",
        "info",
        "cortex.a",
        "m",
    )
    assert (second["event"], second["level"], second["logger"], second["model"]) == (
        "load ordered",
        "warning",
        "cortex.b",
        "m",
    )


def test_an_exception_is_one_line_with_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(LogConfig())
    try:
        raise ValueError("odd")
    except ValueError:
        logging.getLogger("x").exception("failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: odd" in json.loads(line)["exception"]


def test_the_console_form_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(LogConfig(format="console"))
    logging.getLogger("cortex.a").info("load ordered", extra={"model": "m"})
    assert "load ordered" in (line := capsys.readouterr().err)
    assert "model=m" in line
    assert not line.startswith("{")


def test_no_color_applies_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    logs.configure(LogConfig())
    logging.getLogger("x").info("in colour")
    monkeypatch.setenv("NO_COLOR", "1")
    logs.configure(LogConfig())
    logging.getLogger("x").info("without")
    coloured, plain = capsys.readouterr().err.splitlines()
    assert "\x1b[" in coloured
    assert "\x1b[" not in plain


def test_the_console_form_never_prints_local_variables(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(LogConfig(format="console"))
    secret = "sk-" + "secret"
    try:
        raise ValueError("odd")
    except ValueError:
        logging.getLogger("x").exception("failed")
    assert "ValueError: odd" in (text := capsys.readouterr().err)
    assert secret not in text


def test_the_level_holds_and_libraries_stay_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(LogConfig(level="info"))
    logging.getLogger("cortex.a").debug("detail")
    logging.getLogger("httpx").info("HTTP Request: GET …")
    assert capsys.readouterr().err == ""
