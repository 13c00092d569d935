"""What a model's row says about it."""

from __future__ import annotations

import pytest

from cortex.operator.model_rows import ModelRow
from cortex.wire.status import Limits, ModelCard, ModelStatus
from tests.top.fleets import model


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (model("m"), "unloaded"),
        (ModelStatus(ModelCard("m", Limits(4096), available=False)), "unavailable"),
        (model("m", state="ready"), "not servable"),
        (model("m", state="ready", servable=True), "ready"),
    ],
)
def test_a_models_state_says_whether_it_can_be_used(status: ModelStatus, word: str) -> None:
    assert ModelRow("n", status).state == word
