"""Layers of sampling parameters, and seeds."""

from __future__ import annotations

import math

import pytest

from cortex.engine.sampling.params import DEFAULTS, from_metadata, is_repeatable, resolve, seed_for, suits_backend
from cortex.errors import BadRequest
from cortex.wire.inference import Sampling


def test_the_request_wins_over_profile_over_gguf_over_defaults() -> None:
    metadata = from_metadata(
        {"general.sampling.temp": "0.6", "general.sampling.top_k": "20", "general.sampling.min_p": "0"}
    )
    resolved = resolve(Sampling(temperature=0.1), Sampling(temperature=0.5, top_k=10), metadata)
    assert (resolved.temperature, resolved.top_k, resolved.min_p, resolved.top_p) == (0.1, 10, 0.0, 0.95)


def test_every_default_is_set() -> None:
    assert all(getattr(DEFAULTS, name) is not None for name in DEFAULTS.__struct_fields__)


def test_metadata_that_does_not_parse_is_left_out() -> None:
    assert from_metadata({"general.sampling.temp": "warm", "general.sampling.top_p": "nan"}) == Sampling()


@pytest.mark.parametrize("sampling", [Sampling(temperature=math.inf), Sampling(repeat_penalty=0.0)])
def test_values_that_llama_cpp_would_abort_on_are_refused(sampling: Sampling) -> None:
    with pytest.raises(BadRequest):
        resolve(sampling, Sampling(), Sampling())


def test_choices_have_their_own_seeds_and_no_seed_is_a_random_one() -> None:
    fixed = Sampling(seed=7)
    assert [seed_for(fixed, choice) for choice in range(3)] == [7, 8, 9]
    assert 0 <= seed_for(Sampling(seed=-1), 0) < 0xFFFFFFFF
    assert seed_for(Sampling(seed=-1), 0) != seed_for(Sampling(seed=-1), 0)


@pytest.mark.parametrize(
    ("sampling", "repeatable"),
    [
        (Sampling(temperature=0.0), True),
        (Sampling(seed=3), True),
        (Sampling(), False),
        (Sampling(top_k=1), True),
        (Sampling(seed=3, mirostat=1), False),
        (Sampling(top_k=1, mirostat=1), False),
        (Sampling(temperature=0.0, mirostat=1), True),
        (Sampling(seed=3, xtc_probability=0.1), False),
    ],
)
def test_what_another_worker_can_go_on_with(sampling: Sampling, repeatable: bool) -> None:
    assert is_repeatable(resolve(sampling, Sampling(), Sampling())) is repeatable


@pytest.mark.parametrize(
    ("sampling", "suits"),
    [
        (Sampling(), True),
        (Sampling(temperature=0.0), True),
        (Sampling(temperature=0.0, top_k=0, mirostat=2), True),
        (Sampling(top_k=1), True),
        (Sampling(repeat_penalty=1.1, presence_penalty=1.5, logit_bias={3: 2.0}, ignore_eos=True), True),
        (Sampling(top_p=1.0, min_p=0.0, temperature=1.0), True),
        (Sampling(top_k=0), False),
        (Sampling(top_k=1000), True),
        (Sampling(top_k=1025), False),
        (Sampling(min_p=1.0), False),
        (Sampling(dry_multiplier=0.8), False),
        (Sampling(dry_multiplier=0.8, temperature=0.0), False),
        (Sampling(dry_multiplier=0.8, dry_penalty_last_n=0), True),
        (Sampling(top_n_sigma=1.0), False),
        (Sampling(typical_p=0.9), False),
        (Sampling(xtc_probability=0.5), False),
        (Sampling(mirostat=1), False),
        (Sampling(dynatemp_range=0.5), False),
    ],
)
def test_what_llama_cpp_samples_on_the_device_as_on_the_cpu(sampling: Sampling, suits: bool) -> None:
    assert suits_backend(resolve(sampling, Sampling(), Sampling()), 50_000) is suits


def test_a_top_k_beyond_the_vocabulary_is_not_for_the_device() -> None:
    """There it is an assertion that ends the process; on the CPU it means all."""
    assert not suits_backend(resolve(Sampling(top_k=40), Sampling(), Sampling()), 39)
    assert suits_backend(resolve(Sampling(top_k=40), Sampling(), Sampling()), 40)


def test_a_long_list_of_sequence_breakers_is_refused() -> None:
    """llama.cpp compares each with every token of the vocabulary, for seconds."""
    assert resolve(Sampling(dry_sequence_breakers=["x"] * 64), Sampling(), Sampling()).dry_sequence_breakers
    with pytest.raises(BadRequest) as caught:
        resolve(Sampling(dry_sequence_breakers=["x"] * 65), Sampling(), Sampling())
    assert caught.value.param == "dry_sequence_breakers"
