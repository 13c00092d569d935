"""The gateway's own Prometheus families: the scheduler's decisions, and the state of the fleet at each scrape.

Gauges are computed from the scheduler's state at each scrape, so that they always agree with it. A scrape asks no
neuron and resets no idle timer. Requests are counted in `serving.telemetry.metrics`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cortex.errors import CortexError
from cortex.gateway.scheduling.effects import Effect, OrderLoad, OrderUnload, Reject
from cortex.gateway.scheduling.loop import Loop
from cortex.gateway.scheduling.state import State

__all__ = ["GatewayMetrics"]

_LOAD_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800)


class GatewayMetrics:
    """A registry of its own. Only the gateway's event loop may call it."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self._cold_starts = Counter(
            "cortex_cold_starts", "Loads ordered, for waiting requests or for more replicas.", ["model"],
            registry=registry,
        )  # fmt: skip
        self._load_seconds = Histogram(
            "cortex_load_seconds", "Time from a load's order to its end.", ["model", "outcome"], buckets=_LOAD_BUCKETS,
            registry=registry,
        )  # fmt: skip
        self._evictions = Counter(
            "cortex_evictions", "Models unloaded: to free memory for others, when idle, or by an operator.",
            ["model", "reason"], registry=registry,
        )  # fmt: skip
        self._rejections = Counter(
            "cortex_rejections", "Requests rejected before they reached a neuron.", ["reason"],
            registry=registry,
        )  # fmt: skip
        self._failovers = Counter(
            "cortex_failovers", "Requests that failed on this neuron and were queued again.", ["neuron"],
            registry=registry,
        )  # fmt: skip

    def attach(self, loop: Loop) -> None:
        """Read the gauges from this loop's scheduler from now on."""
        self.registry.register(_StateCollector(loop))

    def exposition(self) -> bytes:
        """This registry's part of `/metrics`."""
        return generate_latest(self.registry)

    def observe(self, effect: Effect) -> None:
        """Count an effect of the scheduler."""
        match effect:
            case OrderLoad():
                self._cold_starts.labels(effect.model).inc()
                for model in effect.evict:
                    self._evictions.labels(model, "room").inc()
            case OrderUnload():
                self._evictions.labels(effect.model, effect.reason).inc()
            case Reject():
                self._rejections.labels(effect.reason).inc()

    def ordered(self, order: OrderLoad | OrderUnload, seconds: float, error: CortexError | None) -> None:
        """Count an order that ended after `seconds`; `error` None = it succeeded."""
        if isinstance(order, OrderLoad):
            self._load_seconds.labels(order.model, "failed" if error else "ok").observe(seconds)

    def failed_over(self, neuron: str) -> None:
        """Count a request that failed on `neuron` and was queued again."""
        self._failovers.labels(neuron).inc()


class _StateCollector(Collector):
    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def collect(self) -> Iterable[Metric]:
        state = self._loop.scheduler.state
        yield from _models(state)
        yield from _neurons(state, time.monotonic())


def _models(state: State) -> Iterable[Metric]:
    in_flight = GaugeMetricFamily("cortex_model_in_flight", "Requests running on neurons.", labels=["model"])
    queued = GaugeMetricFamily(
        "cortex_model_queue_depth", "Requests waiting for a free place or a load.", labels=["model"]
    )
    for model in sorted({status.card.id for n in state.fleet if n.status for status in n.status.models}):
        queue = state.queues.get(model)
        in_flight.add_metric([model], queue.in_flight if queue else 0)
        queued.add_metric([model], queue.requests_waiting if queue else 0)
    yield in_flight
    yield queued


def _neurons(state: State, now: float) -> Iterable[Metric]:
    up = GaugeMetricFamily("cortex_neuron_up", "1 while the neuron is healthy or degraded.", labels=["neuron"])
    breaker = GaugeMetricFamily(
        "cortex_neuron_breaker_open",
        "1 while the breaker of one of its models is open and gets no requests, 0.5 while half open.",
        labels=["neuron"],
    )
    memory = GaugeMetricFamily(
        "cortex_device_memory_bytes", "Memory by device and kind.", labels=["neuron", "device", "kind"]
    )
    for neuron in state.fleet:
        up.add_metric([neuron.name], float(neuron.health in ("healthy", "degraded")))
        openness = {"closed": 0.0, "half_open": 0.5, "open": 1.0}[neuron.breaker_state(now)]
        breaker.add_metric([neuron.name], openness)
        for device in neuron.status.devices if neuron.status else ():
            for kind in ("total", "free", "used", "reserved", "budget"):
                memory.add_metric([neuron.name, device.id, kind], getattr(device, f"{kind}_bytes"))
    yield up
    yield breaker
    yield memory
