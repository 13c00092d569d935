"""The operator's commands over HTTP: status, load, unload, pin, unpin, drain, resume, plan and top."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cortex.cli.options import Json
from cortex.cli.output import print_json, print_line, print_table, reports_errors
from cortex.cli.tables import model_table, neuron_table, plan_table, problems
from cortex.errors import ConfigError, ModelLoadFailed
from cortex.wire.status import LoadJob

if TYPE_CHECKING:  # importing the HTTP client takes as long as everything else here together
    from cortex.operator.client import FleetApi

__all__ = ["DEFAULT_URL", "Key", "Url", "register"]

Url = Annotated[str, typer.Option("--url", envvar="CORTEX_URL", help="Gateway or neuron to connect to.")]
Key = Annotated[str | None, typer.Option("--key", envvar="CORTEX_API_KEY", help="API key, if the server requires one.")]
Model = Annotated[str, typer.Argument(help="Model id or alias.")]
Neuron = Annotated[str, typer.Argument(help="Neuron name.")]

DEFAULT_URL = "http://127.0.0.1:31313"


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for command in (status, load, unload, pin, unpin, drain, resume, plan, top):
        app.command(rich_help_panel="See and steer the fleet")(command)


def _api(url: str, key: str | None) -> FleetApi:
    from cortex.operator.client import FleetApi

    return FleetApi(url, key)


@reports_errors
def status(url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """Show neurons, devices and models, and what is wrong with them."""
    fleet = _api(url, key).fleet()
    if as_json:
        print_json(fleet)
        return
    print_table(neuron_table(fleet))
    print_line("")
    print_table(model_table(fleet))
    if lines := problems(fleet):
        print_line("\n" + "\n".join(lines))


@reports_errors
def load(model: Model, url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """Load a model and wait until it is ready."""
    api = _api(url, key)
    job = _watch(api, api.load(model), show=not as_json and sys.stderr.isatty())
    if as_json:
        print_json(job)
    if job.state != "ready":
        raise ModelLoadFailed(f"{job.model} did not load: {job.error or job.state}")
    if not as_json:
        print_line(f"{job.model} is ready")


@reports_errors
def unload(model: Model, url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """Unload a model from every neuron, once its running requests have finished."""
    _report(_api(url, key).unload(model), f"{model} is unloaded when its running requests have finished", as_json)


@reports_errors
def pin(model: Model, url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """Pin a model: it is never evicted."""
    _report(_api(url, key).pin(model, pinned=True), f"{model} is pinned: it is never evicted", as_json)


@reports_errors
def unpin(model: Model, url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """Unpin a model: it may be evicted again."""
    _report(_api(url, key).pin(model, pinned=False), f"{model} may be evicted again", as_json)


@reports_errors
def drain(neuron: Neuron, url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """Send a neuron no new requests; its running ones finish."""
    _report(_api(url, key).drain(neuron, drained=True), f"{neuron} gets no new requests", as_json)


@reports_errors
def resume(neuron: Neuron, url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """Send requests to a drained neuron again."""
    _report(_api(url, key).drain(neuron, drained=False), f"{neuron} gets requests again", as_json)


@reports_errors
def plan(model: Model, url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """Show where a model would be loaded now, which models would be evicted for it, and why."""
    answer = _api(url, key).plan(model)
    if as_json:
        print_json(answer)
        return
    print_line(f"{answer.summary or answer.model}\n")
    print_table(plan_table(answer))


@reports_errors
def top(
    url: Url = DEFAULT_URL,
    key: Key = None,
    once: Annotated[bool, typer.Option("--once", help="Print one frame and exit.")] = False,
    interval: Annotated[float, typer.Option(min=0.2, help="Seconds between polls.")] = 1.0,
) -> None:
    """Watch neurons, devices, models and requests live; press ? for the keys."""
    from cortex.top import app

    console = Console()
    if once:
        app.run_once(_api(url, key), console)
    elif not console.is_terminal:
        raise ConfigError("cortex top needs a terminal; use --once or `cortex status --json` in scripts")
    else:
        app.run(_api(url, key), console, interval)


def _report(answer: bytes, done: str, as_json: bool) -> None:
    if as_json:
        print_json(answer or b"{}")
    else:
        print_line(done)


def _watch(api: FleetApi, job: LoadJob, *, show: bool) -> LoadJob:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not show) as progress:
        task = progress.add_task(job.model, total=1.0)
        for latest in api.watch_load(job):
            progress.update(task, completed=latest.progress, description=f"{job.model} {latest.stage}".strip())
    return latest
