"""What a key press does. Pure."""

from __future__ import annotations

from dataclasses import replace

from cortex.operator.model_rows import ModelRow
from cortex.top.rows import NeuronRow, RequestRow, Row, visible_rows
from cortex.top.state import SORTS, Action, TopState

__all__ = ["on_key"]


def on_key(state: TopState, key: str) -> tuple[TopState, Action | None]:
    """The state after `key` was pressed, and an action that this key confirmed, if any."""
    if state.pending is not None:
        confirmed = state.pending if key in ("y", "Y") else None
        return replace(state, pending=None, message="" if confirmed else "not done"), confirmed
    if state.typing_filter:
        return _typed(state, key), None
    return _command(replace(state, message=""), key), None


def _typed(state: TopState, key: str) -> TopState:
    match key:
        case "enter":
            return replace(state, typing_filter=False)
        case "escape":
            return replace(state, typing_filter=False, filter="")
        case "backspace":
            return replace(state, filter=state.filter[:-1])
        case _ if len(key) == 1 and key.isprintable():
            return replace(state, filter=state.filter + key)
        case _:
            return state


def _command(state: TopState, key: str) -> TopState:
    match key:
        case "q" | "ctrl-c":
            return replace(state, quit=True)
        case "up" | "k":
            return _move(state, -1)
        case "down" | "j":
            return _move(state, 1)
        case "pageup":
            return _move(state, -10)
        case "pagedown":
            return _move(state, 10)
        case " ":
            return replace(state, paused=not state.paused)
        case "s":
            return replace(state, sort=SORTS[(SORTS.index(state.sort) + 1) % len(SORTS)])
        case "a":
            return replace(state, show_unloaded=not state.show_unloaded)
        case "/":
            return replace(state, typing_filter=True)
        case "escape":
            return replace(state, filter="", show_help=False)
        case "?" | "h":
            return replace(state, show_help=not state.show_help)
        case "u" | "l" | "p" | "d" | "c":
            return _ask(state, key)
        case _:
            return state


def _move(state: TopState, by: int) -> TopState:
    keys = [row.key for row in visible_rows(state)]
    if not keys:
        return state
    at = keys.index(state.selected) + by if state.selected in keys else 0
    return replace(state, selected=keys[max(0, min(at, len(keys) - 1))])


def _ask(state: TopState, key: str) -> TopState:
    row = next((row for row in visible_rows(state) if row.key == state.selected), None)
    action = _action_for(row, key)
    if action is None:
        wanted = {"u": "a model", "l": "a model", "p": "a model", "d": "a neuron", "c": "a request"}[key]
        return replace(state, message=f"select {wanted} first (↑ ↓)")
    return replace(state, pending=action)


def _action_for(row: Row | None, key: str) -> Action | None:
    match key, row:
        case "u", ModelRow(status=status) if status.state != "unloaded":
            return Action("unload", status.card.id, f"unload {status.card.id}?")
        case "l", ModelRow(status=status):
            return Action("load", status.card.id, f"load {status.card.id}?")
        case "p", ModelRow(status=status) if row.pinned:
            return Action("unpin", status.card.id, f"unpin {status.card.id}?")
        case "p", ModelRow(status=status):
            return Action("pin", status.card.id, f"pin {status.card.id}?")
        case "d", NeuronRow(neuron=neuron) if neuron.drained:
            return Action("resume", neuron.name, f"resume {neuron.name}?")
        case "d", NeuronRow(neuron=neuron):
            return Action("drain", neuron.name, f"drain {neuron.name}?")
        case "c", RequestRow(request=request):
            return Action("cancel", request.id, f"cancel {request.id}?")
        case _:
            return None
