"""Sampling parameters: the request's over the profile's over the GGUF's own over llama.cpp's defaults. Pure."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping

import msgspec

from cortex.errors import BadRequest
from cortex.wire.inference import Sampling

__all__ = ["DEFAULTS", "from_metadata", "is_repeatable", "resolve", "seed_for", "suits_backend"]

DEFAULTS = Sampling(
    temperature=0.8,
    top_k=40,
    top_p=0.95,
    min_p=0.05,
    typical_p=1.0,
    top_n_sigma=-1.0,
    xtc_probability=0.0,
    xtc_threshold=0.1,
    dynatemp_range=0.0,
    dynatemp_exponent=1.0,
    dry_multiplier=0.0,
    dry_base=1.75,
    dry_allowed_length=2,
    dry_penalty_last_n=64,
    dry_sequence_breakers=["\n", ":", '"', "*"],
    repeat_penalty=1.0,
    repeat_last_n=64,
    frequency_penalty=0.0,
    presence_penalty=0.0,
    mirostat=0,
    mirostat_tau=5.0,
    mirostat_eta=0.1,
    seed=-1,
    logit_bias={},
    ignore_eos=False,
)
"""llama.cpp's own (common/common.h, common_params_sampling)."""

_RANDOM_SEED = 0xFFFFFFFF
"""llama.cpp's LLAMA_DEFAULT_SEED, which means "choose one": never given to it."""

_MOST_CANDIDATES = 1024
"""Largest top-k on the device. Backend samplers copy every candidate to the host, three numbers each, and add up
probabilities in single precision: over a whole vocabulary that costs more than the logits, and its rounding draws
unlikely tokens now and then."""
_MOST_MIN_P = 0.99
"""Largest min-p on the device: its sampler keeps candidates above the threshold, and at 1 there is none."""

_METADATA_KEYS = {
    "general.sampling.top_k": "top_k",
    "general.sampling.top_p": "top_p",
    "general.sampling.min_p": "min_p",
    "general.sampling.xtc_probability": "xtc_probability",
    "general.sampling.xtc_threshold": "xtc_threshold",
    "general.sampling.temp": "temperature",
    "general.sampling.penalty_last_n": "repeat_last_n",
    "general.sampling.penalty_repeat": "repeat_penalty",
    "general.sampling.mirostat": "mirostat",
    "general.sampling.mirostat_tau": "mirostat_tau",
    "general.sampling.mirostat_eta": "mirostat_eta",
}


def from_metadata(metadata: Mapping[str, str]) -> Sampling:
    """The sampling parameters in a GGUF's metadata; one that doesn't parse is left out."""
    found: dict[str, float] = {}
    for key, name in _METADATA_KEYS.items():
        if key in metadata and (value := _number(metadata[key])) is not None:
            found[name] = int(value) if name in {"top_k", "repeat_last_n", "mirostat"} else value
    try:
        return msgspec.convert(found, Sampling)
    except msgspec.ValidationError:
        return Sampling()


def resolve(request: Sampling, profile: Sampling, metadata: Sampling) -> Sampling:
    """The merged parameters, every field set. Raises BadRequest for values on which llama.cpp would end the process."""
    merged = request.merged_over(profile).merged_over(metadata).merged_over(DEFAULTS)
    for name in merged.__struct_fields__:
        value = getattr(merged, name)
        if isinstance(value, float) and not math.isfinite(value):
            raise BadRequest(f"{name} must be a finite number", param=name)
    if merged.repeat_penalty is not None and merged.repeat_penalty <= 0:
        raise BadRequest("repeat_penalty must be greater than 0", param="repeat_penalty")
    return merged


def seed_for(sampling: Sampling, choice: int) -> int:
    """The seed of one choice: the choices of a request differ, and the same request gives the same seeds."""
    if sampling.seed is None or sampling.seed < 0:
        return secrets.randbelow(_RANDOM_SEED)
    return (sampling.seed + choice) % _RANDOM_SEED


def is_repeatable(sampling: Sampling) -> bool:
    """Whether the prompt, the seed and the tokens so far determine the next token (`sampling` as resolved).

    Mirostat has a running state, XTC draws a number only where there are two candidates: neither can be rebuilt from
    tokens. The draw itself takes exactly one number per token.
    """
    if sampling.temperature is not None and sampling.temperature <= 0:
        return True
    if sampling.mirostat:
        return False
    seeded = sampling.seed is not None and sampling.seed >= 0
    return sampling.top_k == 1 or (seeded and not sampling.xtc_probability)


def suits_backend(sampling: Sampling, vocab_size: int) -> bool:
    """Whether llama.cpp's backend samplers draw as its CPU samplers do (`sampling` as resolved).

    They implement biases, penalties, top-k, top-p, min-p, temperature, the draw, and greedy. Their dynamic temperature
    counts the candidates that filters have dropped, and a top-k above the vocabulary's size ends the process.
    """
    s = sampling
    if s.dry_multiplier and s.dry_penalty_last_n:
        return False
    if (s.temperature or 0.0) <= 0.0:
        return True
    if s.mirostat or s.xtc_probability or (s.dynatemp_range or 0.0) > 0.0:
        return False
    if (s.top_n_sigma or 0.0) > 0.0 or (s.typical_p is not None and s.typical_p < 1.0):
        return False
    return 0 < (s.top_k or 0) <= min(vocab_size, _MOST_CANDIDATES) and (s.min_p or 0.0) <= _MOST_MIN_P


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
