"""Which rows `cortex top` shows, and in which order."""

from __future__ import annotations

from cortex.operator.model_rows import ModelRow
from cortex.top.rows import NeuronRow, RequestRow, visible_rows
from cortex.top.state import SORTS
from tests.top.presses import press, shown, start


def test_rows_list_neurons_devices_models_then_requests() -> None:
    kinds = [row.key for row in visible_rows(start())]
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


def test_every_kind_of_row_occurs() -> None:
    kinds = {type(row) for row in visible_rows(start())}
    assert {NeuronRow, ModelRow, RequestRow} <= kinds
