"""What requests look like from the front door, as Prometheus families, on gateway and neuron alike.

Label values are bounded: a model that doesn't exist is `unknown`, since a client can invent names without end.

Rendering is what a scrape costs: 100 models' histograms took the client library 140 ms, on the loop that relays
streams. So every model has a registry of its own, whose text is made anew only after a request; a scrape joins texts.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from cortex.serving.records import RequestRecord

__all__ = ["LATENCY_BUCKETS", "ModelMetrics", "RequestMetrics"]

LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
"""Seconds: from a cached prefix on a small model to a cold load of a large one."""

_TOKEN_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 10)
_RATE_BUCKETS = (1, 2, 5, 10, 15, 20, 30, 40, 50, 75, 100, 150, 200, 300, 500, 1000)


class RequestMetrics:
    """`observe` is an Observer. `is_known(model)` tells which model names may become label values."""

    def __init__(self, is_known: Callable[[str], bool]) -> None:
        self._is_known = is_known
        self._models: dict[str, ModelMetrics] = {}

    def observe(self, record: RequestRecord) -> None:
        model = record.model if self._is_known(record.model) else "unknown"
        if model not in self._models:
            self._models[model] = ModelMetrics(model)
        self._models[model].observe(record)

    def exposition(self) -> bytes:
        """All models' samples in the text format: each family's head once, then every model's lines of it."""
        families: dict[bytes, list[bytes]] = {}
        for model in self._models.values():
            for head, samples in model.families().items():
                families.setdefault(head, []).append(samples)
        return b"".join(head + b"".join(samples) for head, samples in families.items())


class ModelMetrics:
    """One model's families, and their text as of its last request."""

    def __init__(self, model: str) -> None:
        registry = self.registry = CollectorRegistry()
        self._model = model
        self._text: dict[bytes, bytes] | None = None
        self._requests = Counter(
            "cortex_requests",
            "Requests by their end. status is the HTTP status the client saw; 499 = it had gone.",
            ["model", "neuron", "dialect", "status"],
            registry=registry,
        )
        self._duration = Histogram(
            "cortex_request_duration_seconds",
            "From arrival to the last byte.",
            ["model", "dialect"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self._ttft = Histogram(
            "cortex_time_to_first_token_seconds",
            "From arrival to the first output, queueing and loading included.",
            ["model"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self._inter_token = Histogram(
            "cortex_inter_token_seconds",
            "Gaps between outputs of one request.",
            ["model"],
            buckets=_TOKEN_BUCKETS,
            registry=registry,
        )
        self._rate = Histogram(
            "cortex_tokens_per_second",
            "Decode speed of single requests, after their first token.",
            ["model"],
            buckets=_RATE_BUCKETS,
            registry=registry,
        )
        self._tokens = Counter(
            "cortex_tokens",
            "Tokens by kind; prompt includes cached, completion includes reasoning.",
            ["model", "kind"],
            registry=registry,
        )

    def observe(self, record: RequestRecord) -> None:
        self._text = None
        self._requests.labels(self._model, record.neuron, record.dialect, str(record.status)).inc()
        self._duration.labels(self._model, record.dialect).observe(record.duration_s)
        if record.ttft_s is not None:
            self._ttft.labels(self._model).observe(record.ttft_s)
        gaps = self._inter_token.labels(self._model)
        for gap in record.inter_token_s:
            gaps.observe(gap)
        if (rate := record.tokens_per_second) is not None:
            self._rate.labels(self._model).observe(rate)
        usage = record.usage
        for kind, count in (
            ("prompt", usage.prompt_tokens),
            ("cached", usage.cached_tokens),
            ("completion", usage.completion_tokens),
            ("reasoning", usage.reasoning_tokens),
        ):
            self._tokens.labels(self._model, kind).inc(count)

    def families(self) -> dict[bytes, bytes]:
        """Sample lines by the family's head (its HELP and TYPE lines)."""
        if self._text is None:
            self._text = _by_family(generate_latest(self.registry))
        return self._text


def _by_family(text: bytes) -> dict[bytes, bytes]:
    families: dict[bytes, bytes] = {}
    head = samples = b""
    for line in text.splitlines(keepends=True):
        if line.startswith(b"# HELP"):
            if samples:
                families[head] = samples
            head, samples = line, b""
        elif line.startswith(b"#"):
            head += line
        else:
            samples += line
    if samples:
        families[head] = samples
    return families
