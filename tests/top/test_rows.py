from __future__ import annotations

import pytest

from cortex.operator.rows import ModelRow, NeuronRow, RequestRow
from cortex.top.model import SORTS
from cortex.top.rows import rows_of
from cortex.wire.status import Limits, ModelCard, ModelStatus
from tests.top.fleets import model
from tests.top.presses import press, shown, start


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


def test_row_types_cover_the_picture() -> None:
    kinds = {type(row) for row in rows_of(start())}
    assert {NeuronRow, ModelRow, RequestRow} <= kinds


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (model("m"), "unloaded"),
        (ModelStatus(ModelCard("m", Limits(4096), available=False)), "unavailable"),
        (model("m", state="ready"), "not servable"),
        (model("m", state="ready", servable=True), "ready"),
    ],
)
def test_a_models_state_is_told_as_it_matters(status: ModelStatus, word: str) -> None:
    assert ModelRow("n", status).state == word
