"""The neuron's Prometheus families, on a registry of its own, collected from memory at each scrape.

Labels are this neuron's devices, workers and catalogued models: all bounded.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from cortex.neuron.models.registry import Evicted, LoadEnded, ModelRegistry
from cortex.serving.telemetry.metrics import RequestMetrics

__all__ = ["NeuronMetrics"]

_LOAD_BUCKETS = (0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800)


class NeuronMetrics:
    """`requests` observes requests; loads and evictions are counted as they happen."""

    CONTENT_TYPE = CONTENT_TYPE_LATEST

    def __init__(self, registry: ModelRegistry) -> None:
        self.registry = CollectorRegistry()
        self.requests = RequestMetrics(lambda model: model in registry.models)
        self._load_seconds = Histogram(
            "cortex_load_seconds",
            "From a load's start to its end.",
            ["model", "outcome"],
            buckets=_LOAD_BUCKETS,
            registry=self.registry,
        )
        self._evictions = Counter(
            "cortex_evictions",
            "Models unloaded to make room or when idle.",
            ["model", "reason"],
            registry=self.registry,
        )
        self.registry.register(_ModelCollector(registry))
        registry.on_event = self._on_move

    def exposition(self) -> bytes:
        """The body of `/metrics`."""
        return generate_latest(self.registry) + self.requests.exposition()

    def _on_move(self, move: LoadEnded | Evicted) -> None:
        match move:
            case LoadEnded(model, seconds, code):
                self._load_seconds.labels(model, code or "ok").observe(seconds)
            case Evicted(model, reason):
                self._evictions.labels(model, reason).inc()


class _ModelCollector(Collector):
    """Gauges and counters whose values are in the model registry already."""

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        yield from self._devices()
        yield from self._workers()
        yield from self._models()

    def describe(self) -> Iterator[Metric]:
        """Nothing by name: a registry would otherwise collect at start, when there is no pool yet."""
        return iter(())

    def _devices(self) -> Iterator[Metric]:
        memory = GaugeMetricFamily("cortex_device_memory_bytes", "Memory by kind of use.", labels=["device", "kind"])
        load = GaugeMetricFamily("cortex_device_utilisation_ratio", "Share of time busy.", labels=["device"])
        heat = GaugeMetricFamily("cortex_device_temperature_celsius", "Core temperature.", labels=["device"])
        healthy = GaugeMetricFamily("cortex_device_healthy", "1 while the device can be used.", labels=["device"])
        for device in self._registry.devices.read():
            reserved = self._registry.ledger.held(device.id)
            kinds = {"total": device.total_bytes, "used": device.used_bytes, "budget": device.budget_bytes}
            for kind, size in (kinds | {"reserved": reserved}).items():
                memory.add_metric([device.id, kind], size)
            healthy.add_metric([device.id], float(device.healthy))
            if device.utilisation is not None:
                load.add_metric([device.id], device.utilisation)
            if device.temperature_c is not None:
                heat.add_metric([device.id], device.temperature_c)
        return iter([memory, load, heat, healthy])

    def _workers(self) -> Iterator[Metric]:
        deaths = CounterMetricFamily("cortex_worker_restarts", "Deaths nobody asked for.", labels=["worker"])
        rss = GaugeMetricFamily("cortex_worker_memory_bytes", "Resident host memory.", labels=["worker"])
        for worker in self._registry.pool.all():
            deaths.add_metric([worker.id], worker.restarts)
            rss.add_metric([worker.id], worker.rss_bytes)
        return iter([deaths, rss])

    def _models(self) -> Iterator[Metric]:
        in_flight = GaugeMetricFamily("cortex_model_in_flight", "Requests with the worker.", labels=["model"])
        depth = GaugeMetricFamily("cortex_model_queue_depth", "Requests waiting for the model.", labels=["model"])
        cells = GaugeMetricFamily("cortex_kv_cells", "KV cells by state.", labels=["model", "state"])
        cached = CounterMetricFamily("cortex_prefix_tokens", "Prompt tokens by source.", labels=["model", "source"])
        calls = CounterMetricFamily("cortex_tool_calls", "Tool calls by outcome.", labels=["model", "outcome"])
        for model, managed in self._registry.models.items():
            in_flight.add_metric([model], managed.running)
            depth.add_metric([model], managed.waiting)
            if (stats := managed.stats) is None:
                continue
            free = stats.kv_cells - stats.kv_used - stats.kv_cached
            for state, count in (("used", stats.kv_used), ("cached", stats.kv_cached), ("free", free)):
                cells.add_metric([model, state], count)
            cached.add_metric([model, "cache"], stats.cached_tokens)
            cached.add_metric([model, "computed"], stats.prompt_tokens - stats.cached_tokens)
            calls.add_metric([model, "parsed"], stats.tool_calls)
            calls.add_metric([model, "as_text"], stats.tool_call_failures)
        return iter([in_flight, depth, cells, cached, calls])
