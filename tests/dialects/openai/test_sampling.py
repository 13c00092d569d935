"""llama.cpp's `samplers` list switches off what it doesn't name."""

from __future__ import annotations

import pytest

from cortex.dialects.openai.sampling import with_samplers
from cortex.wire.inference import Sampling

SAID = Sampling(temperature=0.7, top_p=0.9, top_k=40, min_p=0.1, repeat_penalty=1.2, dry_multiplier=0.8)


@pytest.mark.parametrize("wanted", [["top_k", "temperature"], ["temp", "top-k"], "kt", ["top_k", "temperature", "new"]])
def test_what_is_not_listed_is_switched_off(wanted: list[str] | str) -> None:
    left = with_samplers(SAID, wanted)
    assert (left.temperature, left.top_k) == (0.7, 40)
    assert (left.top_p, left.min_p, left.typical_p) == (1.0, 0.0, 1.0)
    assert (left.repeat_penalty, left.dry_multiplier, left.xtc_probability) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize("wanted", [None, [], ""])
def test_no_list_wants_everything(wanted: list[str] | str | None) -> None:
    assert with_samplers(SAID, wanted) == SAID


def test_temperature_zero_is_no_sampler_and_stays() -> None:
    assert with_samplers(Sampling(temperature=0.0), ["top_k"]).temperature == 0.0
