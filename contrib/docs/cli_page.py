"""Makes docs/reference/cli.md from the commands of the `cortex` program (`make docs`)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from cortex.cli.app import app
from cortex.cli.output import EXIT_CODES

__all__ = ["Parameter", "commands", "document", "parameters"]

HEAD = """# Commands

Made by `make docs` from the code; don't edit. `cortex COMMAND --help` prints the same for one command, and
`cortex --install-completion` sets up completion in the shell. `cortex --version` prints the versions.
"""

EXIT_HEAD = """## Exit codes

An error is one line on stderr that begins with `cortex: `.

| code | meaning |
|---|---|
| 0 | done |"""

MEANINGS = {
    "ConfigError": "wrong configuration or usage",
    "NotFound": "no such model, neuron or request",
    "BadRequest": "the server refused the request as wrong",
    "ModelLoadFailed": "the model could not be loaded",
    "Unavailable": "the server can't be reached, is busy or is shutting down",
    "CortexError": "refused, or failed otherwise",
}
"""What the classes of `EXIT_CODES` mean to somebody who types a command."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a command's function, with what its annotation says about it."""

    name: str
    kind: type
    info: OptionInfo | ArgumentInfo
    default: object

    @property
    def switches(self) -> list[str]:
        """`--config`, `-c`; of a boolean that can be on, `--no-…` as well. An argument has none."""
        if isinstance(self.info, ArgumentInfo):
            return []
        plain = f"--{self.name.replace('_', '-')}"
        implied = [plain, f"--no-{plain[2:]}"] if self.kind is bool else [plain]
        # typer takes the first name for a default until it has seen that the default stands elsewhere
        first = [self.info.default] if isinstance(self.info.default, str) else []
        return [*first, *(self.info.param_decls or ())] or implied

    @property
    def value(self) -> str:
        return "" if self.kind is bool else {Path: "path", str: "text", int: "integer", float: "number"}[self.kind]


def document() -> str:
    """The whole page."""
    lines = [HEAD]
    for name, command in commands():
        lines += _section(name, command)
    lines.append(EXIT_HEAD)
    codes = sorted((code, kind.__name__) for kind, code in EXIT_CODES)
    lines += [f"| {code} | {MEANINGS[kind]} |" for code, kind in codes]
    return "\n".join(lines) + "\n"


def commands() -> list[tuple[str, Callable[..., None]]]:
    """All commands with their full names, in the order in which `--help` lists them."""
    return list(_walk("cortex", app))


def _walk(name: str, group: typer.Typer) -> Iterator[tuple[str, Callable[..., None]]]:
    for command in group.registered_commands:
        assert command.callback is not None
        yield f"{name} {command.name or command.callback.__name__}", command.callback
    for child in group.registered_groups:
        assert child.typer_instance is not None
        yield from _walk(f"{name} {child.typer_instance.info.name}", child.typer_instance)


def parameters(command: Callable[..., None]) -> list[Parameter]:
    """In the order of the function's signature, without hidden ones."""
    hints = get_type_hints(command, include_extras=True)
    signature = inspect.signature(command).parameters
    found = [_parameter(name, hints[name], signature[name].default) for name in signature]
    return [each for each in found if not each.info.hidden]


def _parameter(name: str, hint: Any, default: object) -> Parameter:
    annotated, info = get_args(hint)
    kinds = [kind for kind in get_args(annotated) if kind is not type(None)]
    return Parameter(name, kinds[0] if kinds else annotated, info, default)


def _section(name: str, command: Callable[..., None]) -> Iterator[str]:
    found = parameters(command)
    arguments = [each for each in found if not each.switches]
    options = [each for each in found if each.switches]
    usage = [name, *(["[OPTIONS]"] if options else []), *(argument.name.upper() for argument in arguments)]
    yield f"## {name}\n"
    yield f"`{' '.join(usage)}`\n"
    yield f"{inspect.getdoc(command)}\n"
    if not found:
        return
    yield "| parameter | value | default | meaning |"
    yield "|---|---|---|---|"
    for each in [*arguments, *options]:
        yield _row(each)
    yield ""


def _row(parameter: Parameter) -> str:
    names = ", ".join(f"`{switch}`" for switch in parameter.switches or [parameter.name.upper()])
    text = (parameter.info.help or "").replace("|", "\\|")
    variable = f" Environment: `{parameter.info.envvar}`." if parameter.info.envvar else ""
    return f"| {names} | {parameter.value} | {_default(parameter)} | {text}{variable} |"


def _default(parameter: Parameter) -> str:
    if parameter.default is inspect.Parameter.empty:
        return "required"
    if parameter.default is None or parameter.default == "":
        return "–"
    if parameter.kind is bool:
        return "on" if parameter.default else "off"
    return f"`{parameter.default}`"
