"""llama.cpp's `samplers`: which samplers a request wants.

The engine applies them in llama.cpp's default order, whatever order the list has; one that isn't listed is switched
off, here by the value at which it changes nothing. Names and letters: llama.cpp `common/sampling.cpp`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from cortex.wire.inference import Sampling

__all__ = ["with_samplers"]

_OFF: dict[str, dict[str, Any]] = {
    "penalties": {"repeat_penalty": 1.0, "frequency_penalty": 0.0, "presence_penalty": 0.0},
    "dry": {"dry_multiplier": 0.0},
    "top_n_sigma": {"top_n_sigma": -1.0},
    "top_k": {"top_k": 0},
    "typ_p": {"typical_p": 1.0},
    "top_p": {"top_p": 1.0},
    "min_p": {"min_p": 0.0},
    "xtc": {"xtc_probability": 0.0},
    "temperature": {"temperature": 1.0, "dynatemp_range": 0.0},
}
_BY_LETTER = dict(zip("edskypmxt", _OFF, strict=True))
_OTHER_NAMES = {"typical_p": "typ_p", "typical": "typ_p", "temp": "temperature", "nucleus": "top_p"}


def with_samplers(sampling: Sampling, wanted: list[str] | str | None) -> Sampling:
    """`sampling` with everything off that isn't in `wanted` (names, or a string of letters); None wants all.

    Words that nobody knows are ignored. Temperature 0 stays: it means the likeliest token, not a sampler.
    """
    if not wanted:
        return sampling
    names = map(_BY_LETTER.get, wanted) if isinstance(wanted, str) else map(_canonical, wanted)
    kept = {name for name in names if name in _OFF}
    off = {field: value for name, fields in _OFF.items() if name not in kept for field, value in fields.items()}
    if sampling.temperature is not None and sampling.temperature <= 0:
        off.pop("temperature", None)
    return msgspec.structs.replace(sampling, **off)


def _canonical(name: str) -> str:
    plain = name.replace("-", "_")
    return _OTHER_NAMES.get(plain, plain)
