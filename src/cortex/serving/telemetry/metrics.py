"""Prometheus metrics of client requests, for gateway and neuron.

Label values are bounded: a model that doesn't exist is `unknown`, because clients could send any number of names.

Rendering all histograms of 100 models with the client library took 140 ms (two x86-64 cores, contrib/bench/scrape.py),
on the event loop that relays streams. So each model has a registry of its own whose text is kept until its next
request, and a scrape joins the texts.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from cortex.serving.telemetry.records import RequestRecord

__all__ = ["LATENCY_BUCKETS", "ModelMetrics", "RequestMetrics"]

LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
"""Upper bounds in seconds: from a cached prefix on a small model to the load of a large one."""

_TOKEN_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 10)
_RATE_BUCKETS = (1, 2, 5, 10, 15, 20, 30, 40, 50, 75, 100, 150, 200, 300, 500, 1000)


class RequestMetrics:
    """The metrics of all models. `observe` is an Observer; model names for which `is_known` is false count as
    `unknown`."""

    def __init__(self, is_known: Callable[[str], bool]) -> None:
        self._is_known = is_known
        self._models: dict[str, ModelMetrics] = {}

    def observe(self, record: RequestRecord) -> None:
        model = record.model if self._is_known(record.model) else "unknown"
        if model not in self._models:
            self._models[model] = ModelMetrics(model)
        self._models[model].observe(record)

    def exposition(self) -> bytes:
        """All samples in Prometheus' text format: the head of each family once, then the lines of every model."""
        families: dict[bytes, list[bytes]] = {}
        for model in self._models.values():
            for head, samples in model.families().items():
                families.setdefault(head, []).append(samples)
        return b"".join(head + b"".join(samples) for head, samples in families.items())


class ModelMetrics:
    """The metric families of one model. Their text is cached until the next request."""

    def __init__(self, model: str) -> None:
        registry = self.registry = CollectorRegistry()
        self._model = model
        self._text: dict[bytes, bytes] | None = None
        self._requests = Counter(
            "cortex_requests",
            "Finished requests. status is the HTTP status that was sent; 499 = the client had disconnected.",
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
            "From arrival to the first output, including queueing and loading.",
            ["model"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self._inter_token = _InterToken(model)
        registry.register(self._inter_token)
        self._rate = Histogram(
            "cortex_tokens_per_second",
            "Decode speed of a request, from its first token on.",
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
        self._inter_token.observe(record.inter_token_s)
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
        """The sample lines of each family, by its head (HELP and TYPE lines)."""
        if self._text is None:
            self._text = _by_family(generate_latest(self.registry))
        return self._text


class _InterToken(Collector):
    """A histogram that observes all gaps of a request at once. The client library's histogram, observed once per token,
    took several microseconds each time."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._up_to = [0] * len(_TOKEN_BUCKETS)
        self._count = 0
        self._sum_s = 0.0

    def observe(self, gaps_s: Sequence[float]) -> None:
        ascending = sorted(gaps_s)
        for bucket, bound in enumerate(_TOKEN_BUCKETS):
            self._up_to[bucket] += bisect_right(ascending, bound)
        self._count += len(ascending)
        self._sum_s += sum(ascending)

    def collect(self) -> Iterable[Metric]:
        bounds = [*map(floatToGoString, _TOKEN_BUCKETS), "+Inf"]
        family = HistogramMetricFamily(
            "cortex_inter_token_seconds", "Gaps between the outputs of a request.", labels=["model"]
        )
        buckets = list(zip(bounds, [*self._up_to, self._count], strict=True))
        family.add_metric([self._model], buckets, self._sum_s)
        yield family


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
