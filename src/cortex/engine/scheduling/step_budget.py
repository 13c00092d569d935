"""How many prompt tokens a step may hold, from the measured speed of this model on this machine. Pure."""

from __future__ import annotations

import math

__all__ = ["StepBudget", "restoring_is_cheaper"]

_WEIGHT = 0.2
"""Of the newest measurement in a running mean: a change of load shows within five steps."""
_IDLE_SHARE = 0.02
"""Share of a decode step that idle cells may cost. Chosen; docs/explanation/performance.md, "What it costs", has what
they do."""
_RETRY_EVERY = 20
"""Restores skipped as too slow before one is tried again: the machine may have been busy."""
_UNMEASURED = 64
"""Prompt tokens in a step beside streams while the prefill rate isn't known."""
_GRANULE = 32
"""Prompt tokens in a step are a multiple of this: smaller batches are slow. Prefill of 1,500 tokens in steps of 512, 64
and 32 rows: 271, 253 and 213 tok/s (SmolLM2 Q4_1, 2 threads)."""
_LEAST_MEASURED = 16
"""Prompt tokens in a step from which on its rate is counted: in smaller ones other costs prevail."""


class StepBudget:
    """Running means over the steps of one engine. Rates are tokens (or, of restores, bytes) per second, 0 = not known.

    A step holds at most `ubatch` prompt tokens (a physical batch): more isn't faster, and cancels and other prompts get
    in between. While sequences decode, it is cut to what takes `stall_s` seconds. `scan_s`: seconds that each sequence
    loses per cell of others, since attention passes over the whole pool (0: not worth counting).
    """

    def __init__(self, *, ubatch: int, stall_s: float, scan_s: float = 0.0) -> None:
        self._ubatch = ubatch
        self._stall_s = stall_s
        self._scan_s = scan_s
        self.prefill_rate = 0.0
        self.decode_rate = 0.0
        self.restore_rate = 0.0
        self._decode_step_s = 0.0
        self._skipped = 0

    def budget(self, decoding: int) -> int:
        """Prompt tokens for the next step, beside `decoding` sequences."""
        if not decoding:
            return self._ubatch
        if not self.prefill_rate:
            return min(self._ubatch, _UNMEASURED)
        spare_s = max(self._stall_s - self._decode_step_s, self._stall_s / 4)
        tokens = int(self.prefill_rate * spare_s)
        return max(_GRANULE, min(tokens // _GRANULE * _GRANULE, self._ubatch))

    def idle_cells(self, running: int) -> float:
        """How many cells of finished sequences may stay in the pool while `running` sequences pass over them."""
        if not self._scan_s or not running:
            return math.inf
        return _IDLE_SHARE * self._decode_step_s / (self._scan_s * running)

    def record(self, *, prefill: int, decode: int, seconds: float) -> None:
        """A step of `prefill` prompt tokens beside `decode` sequences took `seconds`."""
        if seconds <= 0:
            return
        if not prefill:
            self._decode_step_s = _mean(self._decode_step_s, seconds)
            self.decode_rate = _mean(self.decode_rate, decode / seconds)
        elif prefill >= _LEAST_MEASURED:
            share = max(seconds - self._decode_step_s, seconds / 2) if decode else seconds
            self.prefill_rate = _mean(self.prefill_rate, prefill / share)

    def record_restore(self, size: int, seconds: float) -> None:
        """A saved state of `size` bytes was read back in `seconds`."""
        if seconds > 0:
            self.restore_rate = _mean(self.restore_rate, size / seconds)

    def worth_restoring(self, size: int, tokens: int) -> bool:
        """Whether to read back a state of `size` bytes, which saves computing `tokens`."""
        if restoring_is_cheaper(size, self.restore_rate, tokens, self.prefill_rate):
            return True
        self._skipped = (self._skipped + 1) % _RETRY_EVERY
        return self._skipped == 0


def restoring_is_cheaper(size: int, restore_rate: float, tokens: int, prefill_rate: float) -> bool:
    """Whether reading `size` bytes takes less time than computing `tokens`, at rates per second; yes if one is 0."""
    return not restore_rate or not prefill_rate or size / restore_rate < tokens / prefill_rate


def _mean(old: float, new: float) -> float:
    return new if not old else old + _WEIGHT * (new - old)
