"""Makes docs/reference/metrics.md from the families that the two roles register (`make docs`).

tests/test_metrics_docs.py keeps the page equal to this output.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.metrics import MetricWrapperBase

from cortex.config.profiles import Profiles
from cortex.config.settings import Config, NeuronConfig
from cortex.gateway.metrics import GatewayMetrics
from cortex.gateway.scheduling.loop import Loop
from cortex.gateway.scheduling.policy import Policy
from cortex.gateway.scheduling.scheduler import Scheduler
from cortex.neuron.app import Neuron
from cortex.serving.telemetry.metrics import ModelMetrics

__all__ = ["Family", "document", "gateway_families", "neuron_families"]

Family = tuple[str, str, tuple[str, ...], str]
"""Name as scraped, type, labels, help."""

HEAD = """# Metrics

Made by `make docs` from the code; don't edit. The gateway serves them at `/metrics` on `gateway.metrics_listen`, a
neuron at `/metrics` on its own port. With keys set, the scrape needs one. Histograms have buckets, which can be summed
over gateways. Label values are bounded: names of models that don't exist are counted under `model="unknown"`.
"""


def gateway_families() -> list[Family]:
    metrics = GatewayMetrics()
    metrics.attach(Loop(Scheduler(Policy(), []), perform=lambda _: None))
    return sorted([*_families(metrics.registry), *_families(ModelMetrics("").registry)])


def neuron_families() -> list[Family]:
    neuron = Neuron(Config(neuron=NeuronConfig(cpu_devices=1, cpu_memory="1GiB")), Profiles())
    return sorted([*_families(neuron.metrics.registry), *_families(ModelMetrics("").registry)])


def _families(registry: CollectorRegistry) -> Iterator[Family]:
    """Also those without a sample yet, which a scrape wouldn't name the labels of."""
    for collector in list(registry._collector_to_names):  # noqa: SLF001 - there is no public way to list them
        labels = tuple(collector._labelnames) if isinstance(collector, MetricWrapperBase) else None  # noqa: SLF001
        for metric in collector.collect():
            yield (
                _scraped_name(metric),
                metric.type,
                _labels(metric) if labels is None else labels,
                metric.documentation,
            )


def _labels(metric: Metric) -> tuple[str, ...]:
    return tuple(getattr(metric, "_labelnames", ()))


def _scraped_name(metric: Metric) -> str:
    return f"{metric.name}_total" if metric.type == "counter" else metric.name


def document() -> str:
    return "\n".join([HEAD, *_section("Gateway", gateway_families()), *_section("Neuron", neuron_families())])


def _section(title: str, families: list[Family]) -> Iterator[str]:
    yield f"## {title}\n"
    yield "| name | type | labels | meaning |"
    yield "|---|---|---|---|"
    for name, kind, labels, meaning in families:
        yield f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in labels) or '–'} | {meaning} |"
    yield ""
