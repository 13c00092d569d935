"""How much prefill a step may hold, and how fast this model runs: measured, never assumed. Pure."""

from __future__ import annotations

import math

__all__ = ["StepBudget", "restoring_is_cheaper"]

_WEIGHT = 0.2
"""Of the newest measurement in a running mean: a change of load shows within five steps."""
_IDLE_SHARE = 0.02
"""Of a decode step: what idle cells may cost it."""
_RETRY_EVERY = 20
"""Times that a slow restore is spared before its rate is measured again: the machine may have been busy."""


class StepBudget:
    """Running means over steps. A prompt gets at most a physical batch per step: more isn't faster, and a cancel or
    another prompt comes in between. While others decode, it is cut to what takes `stall_s`. `scan_s` is what a cell
    costs each sequence that must pass over it: attention walks the whole pool (0: nothing worth counting)."""

    def __init__(self, *, ubatch: int, stall_s: float, scan_s: float = 0.0) -> None:
        self._ubatch = ubatch
        self._stall_s = stall_s
        self._scan_s = scan_s
        self.prefill_rate = 0.0
        self.decode_rate = 0.0
        self.restore_rate = 0.0
        self._decode_step_s = 0.0
        self._spared = 0

    def budget(self, decoding: int) -> int:
        """Prefill tokens for the next step, beside `decoding` sequences."""
        if not decoding:
            return self._ubatch
        if not self.prefill_rate:
            return min(self._ubatch, 64)
        spare_s = max(self._stall_s - self._decode_step_s, self._stall_s / 4)
        tokens = int(self.prefill_rate * spare_s)
        return max(32, min(tokens // 32 * 32, self._ubatch))

    def idle_cells(self, running: int) -> float:
        """How many cells of finished sequences may lie in the pool while `running` others walk over them."""
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
        elif prefill >= 16:
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
        self._spared = (self._spared + 1) % _RETRY_EVERY
        return self._spared == 0


def restoring_is_cheaper(size: int, restore_rate: float, tokens: int, prefill_rate: float) -> bool:
    """By bytes and tokens per second. A rate of zero isn't known yet; then restoring is tried."""
    return not restore_rate or not prefill_rate or size / restore_rate < tokens / prefill_rate


def _mean(old: float, new: float) -> float:
    return new if not old else old + _WEIGHT * (new - old)
