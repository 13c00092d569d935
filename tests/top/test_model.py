from __future__ import annotations

from dataclasses import replace

from cortex.top.model import (
    SORTS,
    ModelRow,
    NeuronRow,
    RequestRow,
    TopState,
    on_key,
    on_snapshot,
    on_unreachable,
    rows_of,
    total_tokens_per_second,
)
from tests.top.fleets import fleet


def shown(state: TopState) -> list[str]:
    return [row.key for row in rows_of(state)]


def press(state: TopState, *keys: str) -> TopState:
    for key in keys:
        state, _ = on_key(state, key)
    return state


def start() -> TopState:
    return on_snapshot(TopState(url="http://gw"), fleet())


def select(state: TopState, key: str) -> TopState:
    return replace(state, selected=key)


def test_rows_list_neurons_devices_models_then_requests() -> None:
    kinds = [row.key for row in rows_of(start())]
    assert kinds == [
        "n:beast",
        "d:beast:cuda0",
        "d:beast:cuda1",
        "m:beast:Qwen/Qwen3.6-27B-GGUF",
        "m:beast:gemma-3-12b",
        "m:beast:smollm2-135m",
        "n:attic",
        "r:chatcmpl-1",
        "r:chatcmpl-9",
    ]


def test_unloaded_models_appear_when_asked_for() -> None:
    assert "m:beast:phi-4" not in shown(start())
    assert "m:beast:phi-4" in shown(press(start(), "a"))


def test_every_sort_orders_the_same_models() -> None:
    state = start()
    models = {key for key in shown(state) if key.startswith("m:")}
    for _ in SORTS:
        state = press(state, "s")
        assert {key for key in shown(state) if key.startswith("m:")} == models
    assert state.sort == "name"


def test_filter_keeps_matching_models_and_their_requests() -> None:
    state = press(start(), "/", *"gemma", "enter")
    assert shown(state) == ["n:beast", "d:beast:cuda0", "d:beast:cuda1", "m:beast:gemma-3-12b", "r:chatcmpl-9"]
    assert press(state, "escape").filter == ""


def test_backspace_edits_and_escape_drops_the_filter() -> None:
    assert press(start(), "/", "a", "b", "backspace").filter == "a"
    assert press(start(), "/", "a", "escape").filter == ""


def test_letters_typed_into_the_filter_are_not_commands() -> None:
    state = press(start(), "/", "q", "u")
    assert not state.quit
    assert state.filter == "qu"


def test_paused_keeps_the_picture_but_not_the_sparkline() -> None:
    paused = press(start(), " ")
    later = on_snapshot(paused, replace_state(fleet()))
    assert later.fleet is paused.fleet
    assert len(later.history) == 2


def replace_state(document: object) -> object:
    import msgspec

    return msgspec.structs.replace(document, neurons=[])


def test_selection_moves_within_the_rows() -> None:
    state = press(start(), "down")
    assert state.selected == "n:beast"
    assert press(state, "up").selected == "n:beast"
    assert press(state, *["down"] * 50).selected == "r:chatcmpl-9"


def test_actions_are_asked_once_and_done_on_yes_only() -> None:
    state = select(start(), "m:beast:Qwen/Qwen3.6-27B-GGUF")
    asked, nothing = on_key(state, "u")
    assert nothing is None
    assert asked.pending is not None
    assert asked.pending.kind == "unload"
    _, action = on_key(asked, "y")
    assert action == asked.pending
    left, none = on_key(asked, "n")
    assert none is None
    assert left.pending is None


def test_pin_toggles_by_what_the_gateway_says() -> None:
    state = press(select(start(), "m:beast:Qwen/Qwen3.6-27B-GGUF"), "p")
    assert state.pending is not None
    assert state.pending.kind == "unpin"
    state = press(select(start(), "m:beast:gemma-3-12b"), "p")
    assert state.pending is not None
    assert state.pending.kind == "pin"


def test_drain_needs_a_neuron_and_cancel_a_request() -> None:
    state = press(select(start(), "n:beast"), "d")
    assert state.pending is not None
    assert state.pending.kind == "drain"
    state = press(select(start(), "r:chatcmpl-1"), "c")
    assert state.pending is not None
    assert state.pending.target == "chatcmpl-1"
    assert "select a request" in press(select(start(), "n:beast"), "c").message


def test_unreachable_keeps_the_last_picture() -> None:
    state = on_unreachable(start(), "connection refused")
    assert state.error == "connection refused"
    assert shown(state)
    assert on_snapshot(state, fleet()).error == ""


def test_rate_counts_running_models_only() -> None:
    assert total_tokens_per_second(fleet()) == 92.5


def test_row_types_cover_the_picture() -> None:
    kinds = {type(row) for row in rows_of(start())}
    assert {NeuronRow, ModelRow, RequestRow} <= kinds
