"""What was measured: one Outcome per request, summarised per group. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

__all__ = ["Outcome", "Summary", "percentile", "summarise"]


class Outcome(Struct, frozen=True):
    """One request as the client saw it.

    `sent_s`, `arrivals` (one per chunk with text) and `ended_s` are seconds on one monotonic clock. Requests with the
    same `group` are summarised together.
    """

    group: str
    sent_s: float
    arrivals: list[float]
    ended_s: float
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    text: str = ""
    error: str = ""

    @property
    def ttft_s(self) -> float:
        """Time to the first text, or to the end where there was none."""
        return (self.arrivals[0] if self.arrivals else self.ended_s) - self.sent_s

    @property
    def gaps_s(self) -> list[float]:
        """Seconds between consecutive chunks."""
        return [later - earlier for earlier, later in zip(self.arrivals, self.arrivals[1:], strict=False)]


class Summary(Struct, frozen=True):
    """The numbers of one group; those about time and tokens are of successful requests only.

    `tokens_per_second` is over the time from the first request's start to the last one's end. `cached_share` is the
    share (0 to 1) of prompt tokens that the server took from its cache.
    """

    group: str
    requests: int
    errors: int
    ttft_p50_ms: float
    ttft_p99_ms: float
    gap_p50_ms: float
    gap_p99_ms: float
    tokens_per_second: float
    prompt_tokens: int
    completion_tokens: int
    cached_share: float


def summarise(outcomes: Iterable[Outcome]) -> list[Summary]:
    """One summary per group, in order of first appearance."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.group, []).append(outcome)
    return [_summary(group, members) for group, members in groups.items()]


def _summary(group: str, outcomes: list[Outcome]) -> Summary:
    good = [outcome for outcome in outcomes if not outcome.error]
    ttfts = [outcome.ttft_s for outcome in good]
    gaps = [gap for outcome in good for gap in outcome.gaps_s]
    prompt = sum(outcome.prompt_tokens for outcome in good)
    completion = sum(outcome.completion_tokens for outcome in good)
    span = max((o.ended_s for o in good), default=0.0) - min((o.sent_s for o in good), default=0.0)
    return Summary(
        group=group or "all",
        requests=len(outcomes),
        errors=len(outcomes) - len(good),
        ttft_p50_ms=percentile(ttfts, 50) * 1e3,
        ttft_p99_ms=percentile(ttfts, 99) * 1e3,
        gap_p50_ms=percentile(gaps, 50) * 1e3,
        gap_p99_ms=percentile(gaps, 99) * 1e3,
        tokens_per_second=completion / span if span > 0 else 0.0,
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_share=sum(outcome.cached_tokens for outcome in good) / prompt if prompt else 0.0,
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """The `percent`-th percentile of `values` by nearest rank; 0.0 for no values."""
    if not values:
        return 0.0
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[min(int(rank), len(ordered)) - 1]
