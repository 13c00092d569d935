"""Fleet documents, plans and model cards as tables. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.table import Table
from rich.text import Text

from cortex.operator.formatting import format_age, format_bytes
from cortex.operator.model_rows import ModelRow, model_rows
from cortex.wire.fleet import FleetNeuron, FleetStatus, PlacementPlan
from cortex.wire.status import DeviceStatus, ModelCard, ModelStatus

__all__ = ["card_table", "cards_table", "model_table", "neuron_table", "plan_table", "problems", "table_of"]

Cell = str | Text


def table_of(columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, numbers: Sequence[str] = ()) -> Table:
    """A table without lines. The columns named in `numbers` are right-aligned and never folded."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        if column in numbers:
            table.add_column(column, justify="right", no_wrap=True)
        else:
            table.add_column(column, overflow="fold")
    for row in rows:
        # Text, since rich takes a str with brackets for markup
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    return table


def neuron_table(fleet: FleetStatus) -> Table:
    """A row per device; the neuron's name and health are in its first."""
    rows = [row for neuron in fleet.neurons for row in _neuron_rows(neuron)]
    return table_of(("neuron", "health", "device", "memory", "reserved", "util"), rows, numbers=("reserved", "util"))


def _neuron_rows(neuron: FleetNeuron) -> Iterator[Sequence[Cell]]:
    head = (neuron.name, f"{neuron.health}, drained" if neuron.drained else neuron.health)
    devices = neuron.status.devices if neuron.status else []
    if not devices:
        yield (*head, "", "", "", "")
    for device in devices:
        yield (*head, *_device_cells(device))
        head = ("", "")


def _device_cells(device: DeviceStatus) -> Sequence[Cell]:
    use = "" if device.utilisation is None else f"{device.utilisation:.0%}"
    memory = f"{format_bytes(device.used_bytes)} of {format_bytes(device.total_bytes)}"
    return f"{device.id} {device.name}", memory, format_bytes(device.reserved_bytes), use


def model_table(fleet: FleetStatus) -> Table:
    """A row per model and neuron."""
    rows = [_model_cells(row) for neuron in fleet.neurons for row in model_rows(fleet, neuron)]
    figures = ("run", "queue", "context", "memory", "idle")
    return table_of(("model", "state", "where", *figures), rows, numbers=figures)


def _model_cells(row: ModelRow) -> Sequence[Cell]:
    status = row.status
    loaded = status.state == "ready"
    return (
        status.card.id,
        f"{row.state}, pinned" if row.pinned else row.state,
        " ".join([row.neuron, *status.devices]) if status.state != "unloaded" else "",
        str(status.running) if loaded else "",
        str(row.queued) if loaded or row.queued else "",
        str(status.card.limits.context or ""),
        format_bytes(status.bytes or status.estimate_bytes) if status.bytes or status.estimate_bytes else "",
        format_age(status.idle_s) if loaded else "",
    )


def problems(fleet: FleetStatus) -> list[str]:
    """One line for each neuron and model that doesn't work, for each warning of a neuron, and for a config that could
    not be reloaded."""
    lines = [f"the config was not reloaded: {fleet.config_error}"] if fleet.config_error else []
    for neuron in fleet.neurons:
        if neuron.reason:
            lines.append(f"{neuron.name} is {neuron.health}: {neuron.reason}")
        if neuron.status:
            lines += [f"{neuron.name}: {warning}" for warning in neuron.status.warnings]
        models: Sequence[ModelStatus] = neuron.status.models if neuron.status else ()
        lines += [
            f"{model.card.id} on {neuron.name}: {why.splitlines()[0]}"
            for model in models
            if (why := model.error or model.card.problem)
        ]
    return lines


def plan_table(answer: PlacementPlan) -> Table:
    """A row per neuron with its verdict, each followed by a row per device with bytes."""
    rows: list[Sequence[Cell]] = []
    for neuron in answer.neurons:
        verdict = Text(neuron.verdict.replace("_", " "), style="bold green" if neuron.chosen else "")
        rows.append((neuron.neuron, verdict, "", "", "", ", ".join(neuron.evict), neuron.reason))
        rows += [
            ("", "", device.device, format_bytes(device.needed_bytes), format_bytes(device.free_bytes), "", "")
            for device in neuron.devices
        ]
    return table_of(("neuron", "verdict", "device", "needs", "free", "evict", "why"), rows, numbers=("needs", "free"))


def cards_table(cards: Iterable[ModelCard]) -> Table:
    """A row per model."""
    figures = ("parameters", "size", "context")
    rows = [
        (card.id, card.architecture, card.quantisation, *_size_cells(card), str(card.context_train or ""), card.problem)
        for card in cards
    ]
    return table_of(("model", "architecture", "quant", *figures, "problem"), rows, numbers=figures)


def card_table(card: ModelCard) -> Table:
    """One model, a line per fact; unknown ones are left out."""
    parameters, size = _size_cells(card)
    facts = {
        "model": card.id,
        "aliases": ", ".join(card.aliases),
        "architecture": card.architecture,
        "quantisation": card.quantisation,
        "parameters": parameters,
        "file size": size,
        "context": f"{card.limits.context} tokens per request, trained for {card.context_train}",
        "parallel": str(card.parallel),
        "content hash": card.gguf_hash or "",
        "problem": card.problem,
    }
    table = table_of(("", ""), [(name, fact) for name, fact in facts.items() if fact])
    table.show_header = False
    return table


def _size_cells(card: ModelCard) -> tuple[str, str]:
    parameters = f"{card.parameters / 1e9:.2f} B" if card.parameters else ""
    return parameters, format_bytes(card.size_bytes) if card.size_bytes else ""
