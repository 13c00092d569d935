"""llama.cpp's DRY samplers, built once per set of parameters and copied for each sequence.

llama.cpp compares each sequence breaker with every token of the vocabulary when it makes the sampler: 62 ms for the
four default ones, 2.1 s for 200 (SmolLM2, 49,152 tokens; a loaded machine of two cores). A copy takes microseconds.
"""

from __future__ import annotations

import ctypes
from collections import OrderedDict
from threading import Lock
from typing import Any

from llama_cpp import llama_cpp as c

from cortex.wire.inference import Sampling

__all__ = ["DrySamplers"]

_KEPT = 16
"""Sets of parameters kept per model: few clients choose their own. Chosen, not measured."""

_Key = tuple[float | None, float | None, int | None, int, tuple[str, ...]]


class DrySamplers:
    """For one vocabulary. Any thread may use it; `close` ends that."""

    def __init__(self, vocab: int) -> None:
        self._vocab = vocab
        self._kept: OrderedDict[_Key, Any] = OrderedDict()
        self._lock = Lock()

    def build(self, sampling: Sampling, window: int) -> None:
        """Make `copy` cheap for these parameters. `window`: tokens that DRY looks back."""
        key = _key(sampling, window)
        with self._lock:
            if key in self._kept:
                return
        made = self._made(key)
        with self._lock:
            unwanted = [self._kept.pop(key)] if key in self._kept else []
            self._kept[key] = made
            while len(self._kept) > _KEPT:
                unwanted.append(self._kept.popitem(last=False)[1])
        for sampler in unwanted:
            c.llama_sampler_free(sampler)

    def copy(self, sampling: Sampling, window: int) -> Any:
        """A new sampler without history, a pointer that the caller owns."""
        key = _key(sampling, window)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return c.llama_sampler_clone(self._kept[key])
        return self._made(key)

    def close(self) -> None:
        with self._lock:
            for sampler in self._kept.values():
                c.llama_sampler_free(sampler)
            self._kept.clear()

    def _made(self, key: _Key) -> Any:
        multiplier, base, allowed_length, window, breakers = key
        array = (ctypes.c_char_p * len(breakers))(*(text.encode() for text in breakers))
        return c.llama_sampler_init_dry(self._vocab, multiplier, base, allowed_length, window, array, len(breakers))


def _key(s: Sampling, window: int) -> _Key:
    return s.dry_multiplier, s.dry_base, s.dry_allowed_length, window, tuple(s.dry_sequence_breakers or [])
