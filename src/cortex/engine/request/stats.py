"""What a model has done since it was loaded, for heartbeats."""

from __future__ import annotations

from collections.abc import Iterable

from cortex.engine.kv.pool import KvPool
from cortex.engine.request.state import RequestState
from cortex.engine.scheduling.scheduler import Scheduler
from cortex.engine.scheduling.step_budget import StepBudget
from cortex.wire.prefix import BLOCK_BYTES
from cortex.wire.worker import EngineModelStats

__all__ = ["ModelStats"]

_TTFT_WEIGHT = 0.2
_MAX_HASHES = 4096
"""Published per heartbeat; beyond it the oldest prefixes go untold."""


class ModelStats:
    """Counters of one engine; the engine raises them, `stats` reads them."""

    def __init__(self, model: str, kv: KvPool, pace: StepBudget) -> None:
        self._model = model
        self._kv = kv
        self._pace = pace
        self.requests = 0
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.completion_tokens = 0
        self.reasoning_tokens = 0
        self.tool_calls = 0
        self.tool_call_failures = 0
        self.steps = 0
        self.canaries = 0
        self._ttft_s = 0.0

    def first_token(self, ttft_s: float) -> None:
        self._ttft_s = ttft_s if not self._ttft_s else self._ttft_s + _TTFT_WEIGHT * (ttft_s - self._ttft_s)

    def finished(self, active: RequestState) -> None:
        self.reasoning_tokens += sum(branch.choice.reasoning_tokens for branch in active.branches)
        self.tool_calls += sum(branch.choice.tool_calls for branch in active.branches)
        self.tool_call_failures += sum(branch.choice.unparsed_calls for branch in active.branches)

    def stats(self, scheduler: Scheduler, active: Iterable[RequestState]) -> EngineModelStats:
        return EngineModelStats(
            model=self._model,
            kv_cells=self._kv.cells,
            kv_used=self._kv.pinned,
            kv_cached=self._kv.cached,
            running=len(scheduler.running),
            waiting=len(scheduler.waiting),
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            completion_tokens=self.completion_tokens,
            reasoning_tokens=self.reasoning_tokens,
            requests=self.requests,
            tool_calls=self.tool_calls,
            tool_call_failures=self.tool_call_failures,
            preemptions=scheduler.preemptions,
            steps=self.steps,
            canaries=self.canaries,
            tokens_per_second=self._pace.decode_rate,
            prefill_tokens_per_second=self._pace.prefill_rate,
            ttft_s=self._ttft_s,
            prefix_hashes=self._hashes(),
            prefix_block=BLOCK_BYTES,
            requests_running=[one.stats() for one in active],
        )

    def _hashes(self) -> list[int]:
        newest_first = sorted(self._kv.slots.values(), key=lambda slot: -slot.last_used)
        known = dict.fromkeys(value for slot in newest_first for value in slot.hashes)
        return list(known)[:_MAX_HASHES]
