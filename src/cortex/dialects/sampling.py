"""The sampling parameters of a request, and llama.cpp's `samplers` list that switches some of them off.

Names and meaning: llama.cpp `tools/server/server-schema.cpp` (fields) and `common/sampling.cpp` (sampler names,
letters).
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import msgspec

from cortex.dialects.fields import MAX_INT, GenerationBody
from cortex.errors import UnsupportedValue
from cortex.wire.inference import Sampling

__all__ = ["sampling_of", "with_samplers"]

_same_names = attrgetter(*Sampling.__struct_fields__)


def sampling_of(body: GenerationBody) -> Sampling:
    """The sampling parameters that the request gives; values out of range are moved to the nearest bound."""
    given = Sampling(*_same_names(body))
    moved: dict[str, Any] = {}
    if body.temperature is not None:
        moved["temperature"] = max(0.0, body.temperature)
    if body.top_p is not None:
        moved["top_p"] = min(1.0, max(0.0, body.top_p))
    if body.min_p is not None:
        moved["min_p"] = min(1.0, max(0.0, body.min_p))
    if body.top_k is not None:
        moved["top_k"] = min(MAX_INT, max(0, body.top_k))
    if body.seed is not None:
        moved["seed"] = _seed(body.seed)
    if body.logit_bias is not None:
        moved["logit_bias"] = _logit_bias(body.logit_bias)
    return with_samplers(msgspec.structs.replace(given, **moved) if moved else given, body.samplers)


def _seed(seed: int) -> int:
    """llama.cpp's seeds have 32 bits and -1 asks for a random one; OpenAI accepts any integer."""
    return -1 if seed == -1 else seed & 0xFFFFFFFF


def _logit_bias(bias: dict[str, float] | list[tuple[int | str, float | bool]]) -> dict[int, float]:
    """Bias by token id. In llama.cpp's list form, `false` forbids a token."""
    pairs = bias.items() if isinstance(bias, dict) else bias
    return {_token_id(token): -100.0 if value is False else float(value) for token, value in pairs}


def _token_id(token: int | str) -> int:
    digits = str(token)
    if not digits.isascii() or not digits.isdigit() or len(digits) > 9:
        raise UnsupportedValue(f"logit_bias: {token!r} is not a token id", param="logit_bias")
    return int(digits)


# Each sampler with the values at which it changes nothing. The order is that of _BY_LETTER's letters.
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
    """`sampling` with every sampler switched off that isn't in `wanted` (names, or a string of letters); None or empty
    keeps all.

    The engine applies samplers in llama.cpp's default order, whatever the order of `wanted`. Unknown names are ignored.
    Temperature 0 is kept: it asks for the likeliest token and isn't a sampler.
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
