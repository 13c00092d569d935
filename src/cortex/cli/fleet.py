"""The operator's commands over HTTP: status, load, unload, pin, unpin, drain, resume, plan and top."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ParamSpec

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from cortex.errors import BadRequest, ConfigError, CortexError, ModelLoadFailed, NotFound, Unavailable
from cortex.top.view import format_age, format_bytes
from cortex.wire.fleet import FleetStatus, PlacementPlan
from cortex.wire.status import LoadJob

if TYPE_CHECKING:  # an HTTP client takes as long to import as everything else here
    from cortex.top.api import FleetApi

__all__ = ["EXIT_CODES", "register"]

P = ParamSpec("P")

Url = Annotated[str, typer.Option("--url", envvar="CORTEX_URL", help="Gateway (or neuron) to talk to.")]
Key = Annotated[str | None, typer.Option("--key", envvar="CORTEX_API_KEY", help="API key, where one is needed.")]
Json = Annotated[bool, typer.Option("--json", help="Print the raw document.")]
Model = Annotated[str, typer.Argument(help="Model id or alias.")]
Neuron = Annotated[str, typer.Argument(help="Neuron name.")]

DEFAULT_URL = "http://127.0.0.1:31313"

EXIT_CODES: list[tuple[type[CortexError], int]] = [
    (ConfigError, 2),
    (NotFound, 4),
    (BadRequest, 5),
    (ModelLoadFailed, 6),
    (Unavailable, 3),
    (CortexError, 1),
]
"""0 done, 1 refused or failed, 2 wrong config or usage, 3 unreachable or busy, 4 no such thing, 5 bad request,
6 the load failed."""


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for command in (status, load, unload, pin, unpin, drain, resume, plan, top):
        app.command()(command)


def _api(url: str, key: str | None) -> FleetApi:
    from cortex.top.api import FleetApi

    return FleetApi(url, key)


def _exits(command: Callable[P, None]) -> Callable[P, None]:
    """Turn a CortexError into one line on stderr and its exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except CortexError as error:
            Console(stderr=True).print(f"[red]cortex:[/red] {error.message}", highlight=False)
            raise typer.Exit(next(code for kind, code in EXIT_CODES if isinstance(error, kind))) from error

    return run


@_exits
def status(url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """Show neurons, devices, models and what runs on them."""
    fleet = _api(url, key).fleet()
    if as_json:
        _print_json(fleet)
        return
    console = Console()
    console.print(_neuron_table(fleet))
    console.print(_model_table(fleet))


@_exits
def load(model: Model, url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """Load a model and wait for it, with a progress bar."""
    api = _api(url, key)
    job = _watch(api, model, api.load(model), show=not as_json and sys.stderr.isatty())
    if as_json:
        _print_json(job)
    if job.state != "ready":
        raise ModelLoadFailed(f"{model} did not load: {job.error or job.state}")
    if not as_json:
        Console().print(f"{model} is ready")


@_exits
def unload(model: Model, url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """Unload a model wherever it is loaded, after its running requests."""
    _tell(_api(url, key).unload(model), as_json=as_json)


@_exits
def pin(model: Model, url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """Keep a model loaded: it is never evicted."""
    _tell(_api(url, key).pin(model, pinned=True), as_json=as_json)


@_exits
def unpin(model: Model, url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """Let a pinned model be evicted again."""
    _tell(_api(url, key).pin(model, pinned=False), as_json=as_json)


@_exits
def drain(neuron: Neuron, url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """Give a neuron no new requests; what runs there ends."""
    _tell(_api(url, key).drain(neuron, drained=True), as_json=as_json)


@_exits
def resume(neuron: Neuron, url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """Give a drained neuron work again."""
    _tell(_api(url, key).drain(neuron, drained=False), as_json=as_json)


@_exits
def plan(model: Model, url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """Explain, for every neuron and device, where a model would go and what would have to leave."""
    answer = _api(url, key).plan(model)
    if as_json:
        _print_json(answer)
    else:
        Console().print(_plan_table(answer))


@_exits
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


# ---- output


def _tell(answer: bytes, *, as_json: bool) -> None:
    """An order's answer; without --json its success is the exit code."""
    if as_json:
        sys.stdout.write((answer or b"{}").decode() + "\n")


def _print_json(document: object) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n")


def _watch(api: FleetApi, model: str, job: LoadJob, *, show: bool) -> LoadJob:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not show) as progress:
        task = progress.add_task(model, total=1.0)
        for latest in api.watch_load(model, job):
            progress.update(task, completed=latest.progress, description=f"{model} {latest.stage}".strip())
    return latest


def _neuron_table(fleet: FleetStatus) -> Table:
    table = Table("neuron", "health", "device", "memory", "cortex", "use", title=f"cortex {fleet.version}")
    for neuron in fleet.neurons:
        health = " ".join(filter(None, [neuron.health, "drained" if neuron.drained else "", neuron.reason]))
        devices = neuron.status.devices if neuron.status else []
        table.add_row(neuron.name, health, *([""] * 4 if not devices else []))
        for device in devices:
            use = f"{device.utilisation:.0%}" if device.utilisation is not None else ""
            memory = f"{format_bytes(device.used_bytes)} of {format_bytes(device.total_bytes)}"
            table.add_row("", "", f"{device.id} {device.name}", memory, format_bytes(device.reserved_bytes), use)
    return table


def _model_table(fleet: FleetStatus) -> Table:
    table = Table("model", "state", "where", "running", "waiting", "context", "memory", "idle")
    for neuron in fleet.neurons:
        for model in neuron.status.models if neuron.status else []:
            loaded = model.state == "ready"
            table.add_row(
                model.card.id,
                model.state if not model.error else f"{model.state}: {model.error.splitlines()[0]}",
                " ".join([neuron.name, *model.devices]) if model.state != "unloaded" else "",
                str(model.running) if loaded else "",
                str(model.waiting) if loaded else "",
                str(model.card.limits.context),
                format_bytes(model.bytes or model.estimate_bytes),
                format_age(model.idle_s) if loaded else "",
            )
    return table


def _plan_table(answer: PlacementPlan) -> Table:
    table = Table("neuron", "verdict", "device", "needs", "free", "evict", "why", title=answer.summary or answer.model)
    for neuron in answer.neurons:
        verdict = f"[bold green]{neuron.verdict}[/]" if neuron.chosen else neuron.verdict
        table.add_row(neuron.neuron, verdict, "", "", "", ", ".join(neuron.evict), neuron.reason)
        for device in neuron.devices:
            needs, free = format_bytes(device.needed_bytes), format_bytes(device.free_bytes)
            table.add_row("", "", device.device, needs, free, "", "")
    return table
