"""Counters of one model since it was loaded, for heartbeats."""

from __future__ import annotations

from collections.abc import Iterable

from cortex.engine.kv.pool import KvPool
from cortex.engine.request.state import ChoiceState, RequestState
from cortex.engine.scheduling.scheduler import Scheduler
from cortex.engine.scheduling.step_budget import StepBudget
from cortex.wire.prefix import BLOCK_BYTES
from cortex.wire.worker import EngineModelStats

__all__ = ["ModelStats"]

_TTFT_WEIGHT = 0.2
"""Weight of the newest request in the running mean of the time to first token."""
_MAX_HASHES = 4096
"""Most prefix hashes published per heartbeat; the newest prefixes count. 36 kB at most in msgpack."""


class ModelStats:
    """Counters of one engine, which increments them; `stats` makes the report."""

    def __init__(self, model: str, kv: KvPool, budget: StepBudget) -> None:
        self._model = model
        self._kv = kv
        self._budget = budget
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

    def started(self, request: RequestState) -> None:
        self.prompt_tokens += len(request.prepared.tokens)
        self.cached_tokens += request.cached_tokens

    def first_token(self, ttft_s: float) -> None:
        """A request's first token was sampled `ttft_s` seconds after its arrival."""
        self._ttft_s = ttft_s if not self._ttft_s else self._ttft_s + _TTFT_WEIGHT * (ttft_s - self._ttft_s)

    def finished(self, request: RequestState) -> None:
        """A request ended without an error."""
        self.reasoning_tokens += sum(choice.output.reasoning_tokens for choice in request.choices)
        self.tool_calls += sum(choice.output.tool_calls for choice in request.choices)
        self.tool_call_failures += sum(choice.output.unparsed_calls for choice in request.choices)

    def stats(self, scheduler: Scheduler[ChoiceState], requests: Iterable[RequestState]) -> EngineModelStats:
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
            tokens_per_second=self._budget.decode_rate,
            prefill_tokens_per_second=self._budget.prefill_rate,
            ttft_s=self._ttft_s,
            prefix_hashes=self._hashes(),
            prefix_block=BLOCK_BYTES,
            requests_running=[request.stats() for request in requests],
        )

    def _hashes(self) -> list[int]:
        newest_first = sorted(self._kv.slots.values(), key=lambda slot: -slot.last_used)
        known = dict.fromkeys(value for slot in newest_first for value in slot.hashes)
        return list(known)[:_MAX_HASHES]
