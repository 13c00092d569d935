"""Sampling parameters, and llama.cpp's `samplers` list, which switches off what it doesn't name."""

from __future__ import annotations

from typing import Any

import pytest

from cortex.dialects.sampling import with_samplers
from cortex.wire.inference import Sampling
from tests.dialects.openai.chat_bodies import parse, refusal


def test_every_sampling_extension_is_passed_on_by_its_name() -> None:
    given_ = {
        "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "typical_p": 0.9, "top_n_sigma": 1.5,
        "xtc_probability": 0.1, "xtc_threshold": 0.2, "dynatemp_range": 0.3, "dynatemp_exponent": 1.1,
        "dry_multiplier": 0.8, "dry_base": 1.75, "dry_allowed_length": 2, "dry_penalty_last_n": 64,
        "dry_sequence_breakers": ["\n"], "repeat_penalty": 1.1, "repeat_last_n": 32, "frequency_penalty": 0.1,
        "presence_penalty": 0.2, "mirostat": 2, "mirostat_tau": 5.0, "mirostat_eta": 0.1, "seed": 7,
        "ignore_eos": True,
    }  # fmt: skip
    assert parse(given_).sampling == Sampling(**given_)


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ({"temperature": -1}, Sampling(temperature=0.0)),
        ({"temperature": 0}, Sampling(temperature=0.0)),
        ({"top_p": 2}, Sampling(top_p=1.0)),
        ({"top_k": -1}, Sampling(top_k=0)),
        ({"seed": -1}, Sampling(seed=-1)),
        ({"seed": 2**70 + 5}, Sampling(seed=5)),
        ({"seed": -7}, Sampling(seed=2**32 - 7)),
        ({"logit_bias": {"15": -100, "2": 1.5}}, Sampling(logit_bias={15: -100.0, 2: 1.5})),
        ({"logit_bias": [[15, False], ["2", 1.5]]}, Sampling(logit_bias={15: -100.0, 2: 1.5})),
    ],
)
def test_numbers_out_of_range_are_moved_to_it(given_: dict[str, Any], expected: Sampling) -> None:
    assert parse(given_).sampling == expected


@pytest.mark.parametrize("token", ["hello", "-1", "1.5", "9" * 30])
def test_a_logit_bias_on_something_else_than_a_token_id_is_refused(token: str) -> None:
    assert refusal(logit_bias={token: 1}).param == "logit_bias"


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
