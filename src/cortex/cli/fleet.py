"""The operator's commands over HTTP: status, load, unload, pin, unpin, drain, resume, plan and top."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cortex.cli.options import Json
from cortex.cli.output import exits, print_json, print_table, say
from cortex.cli.tables import model_table, neuron_table, plan_table, troubles
from cortex.errors import ConfigError, ModelLoadFailed
from cortex.wire.status import LoadJob

if TYPE_CHECKING:  # an HTTP client takes as long to import as everything else here
    from cortex.operator.client import FleetApi

__all__ = ["DEFAULT_URL", "Key", "Url", "register"]

Url = Annotated[str, typer.Option("--url", envvar="CORTEX_URL", help="Gateway (or neuron) to talk to.")]
Key = Annotated[str | None, typer.Option("--key", envvar="CORTEX_API_KEY", help="API key, where one is needed.")]
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


@exits
def status(url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """Show neurons, devices, models and what runs on them."""
    fleet = _api(url, key).fleet()
    if as_json:
        print_json(fleet)
        return
    print_table(neuron_table(fleet))
    say("")
    print_table(model_table(fleet))
    if sentences := troubles(fleet):
        say("\n" + "\n".join(sentences))


@exits
def load(model: Model, url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """Load a model and wait for it, with a progress bar."""
    api = _api(url, key)
    job = _watch(api, api.load(model), show=not as_json and sys.stderr.isatty())
    if as_json:
        print_json(job)
    if job.state != "ready":
        raise ModelLoadFailed(f"{job.model} did not load: {job.error or job.state}")
    if not as_json:
        say(f"{job.model} is ready")


@exits
def unload(model: Model, url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """Unload a model wherever it is loaded, after its running requests."""
    _tell(_api(url, key).unload(model), f"{model} leaves when its running requests have ended", as_json)


@exits
def pin(model: Model, url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """Keep a model loaded: it is never evicted."""
    _tell(_api(url, key).pin(model, pinned=True), f"{model} is pinned: it is never evicted", as_json)


@exits
def unpin(model: Model, url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """Let a pinned model be evicted again."""
    _tell(_api(url, key).pin(model, pinned=False), f"{model} may be evicted again", as_json)


@exits
def drain(neuron: Neuron, url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """Give a neuron no new requests; what runs there ends."""
    _tell(_api(url, key).drain(neuron, drained=True), f"{neuron} gets no new requests", as_json)


@exits
def resume(neuron: Neuron, url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """Give a drained neuron work again."""
    _tell(_api(url, key).drain(neuron, drained=False), f"{neuron} gets requests again", as_json)


@exits
def plan(model: Model, url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """Explain, for every neuron and device, where a model would go and what would have to leave."""
    answer = _api(url, key).plan(model)
    if as_json:
        print_json(answer)
        return
    say(f"{answer.summary or answer.model}\n")
    print_table(plan_table(answer))


@exits
def top(
    url: Url = DEFAULT_URL,
    key: Key = None,
    once: Annotated[bool, typer.Option("--once", help="Print one frame and leave.")] = False,
    interval: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks at the fleet.")] = 1.0,
) -> None:
    """Watch the fleet live: neurons, devices, models, requests; ? shows the keys."""
    from cortex.top import app

    console = Console()
    if once:
        app.run_once(_api(url, key), console)
    elif not console.is_terminal:
        raise ConfigError("cortex top needs a terminal; use --once or `cortex status --json` in scripts")
    else:
        app.run(_api(url, key), console, interval)


def _tell(answer: bytes, done: str, as_json: bool) -> None:
    if as_json:
        print_json(answer or b"{}")
    else:
        say(done)


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
