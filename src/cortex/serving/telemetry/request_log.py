"""One line a request, at its end. Prompts and answers are never logged."""

from __future__ import annotations

import structlog

from cortex.serving.telemetry.records import RequestRecord

__all__ = ["log_request"]

_logger = structlog.get_logger("cortex.request")


def log_request(record: RequestRecord) -> None:
    """The operator's line: who asked what of whom, what it cost, how it ended."""
    rate, ttft = record.tokens_per_second, record.ttft_s
    report = _logger.warning if record.ended == "error" else _logger.info
    report(
        "request",
        id=record.id,
        principal=record.principal or "anonymous",
        dialect=record.dialect,
        model=record.model,
        neuron=record.neuron or None,
        status=record.status,
        ended=record.ended,
        finish=record.finish or record.code or None,
        prompt_tokens=record.usage.prompt_tokens,
        cached_tokens=record.usage.cached_tokens,
        completion_tokens=record.usage.completion_tokens,
        reasoning_tokens=record.usage.reasoning_tokens,
        tool_calls=record.tool_calls,
        ttft_s=None if ttft is None else round(ttft, 4),
        tokens_per_second=None if rate is None else round(rate, 1),
        duration_s=round(record.duration_s, 4),
    )
