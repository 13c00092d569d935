"""A TopState at a width and height as lines of rich Text. Pure; colour repeats what the text says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.text import Text

from cortex.operator.formatting import bar, clip, format_age, format_bytes, sparkline
from cortex.operator.model_rows import ModelRow
from cortex.top.rows import DeviceRow, NeuronRow, RequestRow, Row, visible_rows
from cortex.top.state import TopState
from cortex.wire.fleet import FleetNeuron

__all__ = ["draw", "height_of_all"]

_WIDE = 120
"""Columns of the terminal from which on the cached share and memory are shown too."""

_HEALTH_STYLE = {"healthy": "green", "degraded": "yellow", "down": "bold red"}
_STATE_STYLE = {"ready": "green", "loading": "cyan", "unloading": "yellow", "failed": "bold red", "unloaded": "dim"}
_HELP = (
    "↑ ↓ j k  move         u  unload the selected model   s  sort by the next column",
    "PgUp PgDn  ten rows   l  load it                     /  filter (Esc clears)",
    "space  pause          p  pin or unpin it             a  unloaded models too",
    "q  quit               d  drain or resume a neuron    c  cancel a request",
)


def draw(state: TopState, width: int, height: int) -> list[Text]:
    """Exactly `height` lines, each at most `width` cells: a header, as many rows as fit around the selected one, a
    footer."""
    head = [_title(state, width), _headings(width)]
    foot = [_footer(state, width)]
    if state.show_help:
        foot = [Text(line, style="dim") for line in _HELP] + foot
    rows = visible_rows(state)
    room = max(0, height - len(head) - len(foot))
    body = [_line(row, width, row.key == state.selected) for row in _window(rows, state.selected, room)]
    if not rows:
        body = [_empty(state)][:room]
    lines = head + body + [Text("")] * (room - len(body)) + foot
    for line in lines:
        line.truncate(width)
    return lines[:height]


def height_of_all(state: TopState) -> int:
    """The height at which every row is shown: title, headings, rows, footer."""
    return 3 + max(1, len(visible_rows(state)))


def _window(rows: Sequence[Row], selected: str, room: int) -> Sequence[Row]:
    at = next((index for index, row in enumerate(rows) if row.key == selected), 0)
    start = max(0, min(at - room // 2, len(rows) - room))
    return rows[start : start + room]


# ---- header and footer


def _title(state: TopState, width: int) -> Text:
    line = Text("cortex top  ", style="bold")
    line.append(state.url, style="dim")
    if state.fleet is not None:
        up = [neuron for neuron in state.fleet.neurons if neuron.health in ("healthy", "degraded")]
        line.append(f"  {len(up)}/{len(state.fleet.neurons)} neurons up")
        if state.fleet.state != "ready":
            line.append(f"  {state.fleet.state}", style="yellow")
    rate = state.history[-1] if state.history else 0.0
    tail = f"{rate:.0f} tok/s "
    spark = sparkline(state.history, max(0, min(30, width - line.cell_len - len(tail) - 2)))
    line.append(" " * max(1, width - line.cell_len - len(tail) - len(spark)))
    line.append(tail, style="bold")
    line.append(spark, style="cyan")
    return line


def _headings(width: int) -> Text:
    return Text(_columns(width, _HEADINGS), style="reverse")


def _footer(state: TopState, width: int) -> Text:
    if state.pending is not None:
        return Text(f" {state.pending.question} y = yes, any other key = no", style="bold reverse")
    if state.typing_filter:
        return Text(f" filter: {state.filter}▏ (Enter keeps, Esc clears)", style="bold")
    if state.error:
        return Text(f" out of date, trying again: {state.error}", style="bold red")
    marks = [f"sort: {state.sort}"]
    if state.filter:
        marks.append(f"filter: {state.filter}")
    if state.paused:
        marks.append("PAUSED")
    if state.fleet is not None and state.fleet.config_error:
        marks.append(f"config not reloaded: {state.fleet.config_error}")
    left = state.message or "  ".join(marks)
    keys = "? help  q quit"
    return Text(f" {left}{' ' * max(1, width - len(left) - len(keys) - 2)}{keys} ", style="dim")


def _empty(state: TopState) -> Text:
    if state.fleet is None:
        return Text(" waiting for the first answer …" if not state.error else "", style="dim")
    return Text(" nothing matches the filter" if state.filter else " no neurons yet", style="dim")


# ---- rows


class _Cells(NamedTuple):
    """One line of the table as text."""

    name: str
    state: str
    run: str
    queue: str
    rate: str
    ttft: str
    kv: str
    cache: str
    idle: str
    memory: str


_HEADINGS = _Cells("NEURON / DEVICE / MODEL", "STATE", "RUN", "QUE", "TOK/S", "TTFT", "KV", "CACHE", "IDLE", "MEMORY")


def _columns(width: int, cells: _Cells) -> str:
    """The line's cells side by side, the name filling what is left of `width`."""
    name, state, run, queue, rate, ttft, kv, cache, idle, memory = cells
    if width >= _WIDE:
        fixed = f" {state:<16.16}{run:>6} {queue:>4} {rate:>8} {ttft:>8} {kv:>5} {cache:>6} {idle:>6} {memory:>10} "
    else:
        fixed = f" {state:<12.12}{run:>5} {queue:>3} {rate:>7} {ttft:>6} {kv:>4} {idle:>5} "
    room = max(8, width - len(fixed))
    return f"{clip(name, room):<{room}}{fixed}"


def _line(row: Row, width: int, selected: bool) -> Text:
    match row:
        case NeuronRow():
            line = _neuron_line(row.neuron)
        case DeviceRow():
            line = _device_line(row, width)
        case ModelRow():
            line = _model_line(row, width)
        case RequestRow():
            line = _request_line(row, width)
    if selected:
        line.pad_right(max(0, width - line.cell_len))
        line.stylize("reverse")
    return line


def _neuron_line(neuron: FleetNeuron) -> Text:
    line = Text(f"● {neuron.name}", style="bold " + _HEALTH_STYLE[neuron.health])
    words: list[str] = [neuron.health]
    if neuron.drained:
        words.append("drained")
    if neuron.breaker != "closed":
        words.append(f"breaker {neuron.breaker.replace('_', '-')}")
    if neuron.reason:
        words.append(neuron.reason)
    if neuron.status:
        words.append(f"up {format_age(neuron.status.uptime_s)}")
    return line.append("  " + " · ".join(words), style="dim")


def _device_line(row: DeviceRow, width: int) -> Text:
    device = row.device
    room = 20 if width >= _WIDE else 10
    share = device.used_bytes / device.total_bytes if device.total_bytes else 0.0
    line = Text(f"  {device.id:<7} ", style="" if device.healthy else "bold red")
    line.append(bar(share, room), style=_load_style(share))
    line.append(f" {format_bytes(device.used_bytes)} of {format_bytes(device.total_bytes)}")
    if device.reserved_bytes:
        line.append(f" ({format_bytes(device.reserved_bytes)} cortex)", style="dim")
    facts = [
        None if device.utilisation is None else f"{device.utilisation:.0%}",
        None if device.temperature_c is None else f"{device.temperature_c} °C",
        None if device.power_w is None else f"{device.power_w:.0f} W",
        None if device.healthy else device.health or "unhealthy",
        device.name,
    ]
    return line.append("  " + "  ".join(fact for fact in facts if fact), style="dim")


def _load_style(share: float) -> str:
    return "red" if share > 0.95 else "yellow" if share > 0.8 else "green"


def _model_line(row: ModelRow, width: int) -> Text:
    status = row.status
    if status.state == "failed" and status.error:
        return Text(f"    · {status.card.id}  failed: {status.error.splitlines()[0]}", style=_STATE_STYLE["failed"])
    cells = _Cells(
        name=f"    {'◆' if row.pinned else '·'} {status.card.id}",
        state=f"loading {status.progress:.0%}" if status.state == "loading" else row.state,
        run=f"{status.running}/{status.card.parallel}",
        queue=str(row.queued),
        rate=f"{status.tokens_per_second:.1f}" if status.running else "-",
        ttft=f"{status.ttft_s:.2f}s" if status.ttft_s else "-",
        kv=_share(status.kv_used + status.kv_cached, status.kv_cells),
        cache=_share(status.cached_tokens_total, status.prompt_tokens_total),
        idle="-" if status.running or status.state != "ready" else format_age(status.idle_s),
        memory=format_bytes(status.bytes) if status.bytes else "-",
    )
    return Text(_columns(width, cells), style=_STATE_STYLE[status.state])


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"


def _request_line(row: RequestRow, width: int) -> Text:
    request = row.request
    who = request.principal or "anonymous"
    tokens = f"{request.prompt_tokens}→{request.completion_tokens}"
    text = f"  ▸ {request.id[:18]:<18} {who[:12]:<12} {request.state:<8} {tokens:>12} {format_age(request.age_s):>5}  "
    return Text(clip(text + f"{request.model} @ {row.neuron}", width))
