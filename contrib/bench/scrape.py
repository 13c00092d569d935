"""Measure the CPU time of a scrape of a gateway with 5 neurons of 20 models each.

python contrib/bench/scrape.py
"""

from __future__ import annotations

import time

import msgspec

from cortex.config.settings import NeuronEntry
from cortex.gateway.metrics import GatewayMetrics
from cortex.gateway.scheduling.loop import Loop
from cortex.gateway.scheduling.policy import Policy
from cortex.gateway.scheduling.scheduler import Scheduler
from cortex.serving.telemetry.metrics import RequestMetrics
from cortex.serving.telemetry.records import RequestMeter
from cortex.wire.events import ChoiceFinished, Finished, Started, TextDelta, Usage
from cortex.wire.status import DeviceStatus, Limits, ModelCard, ModelStatus, NeuronStatus

NEURONS, MODELS, BUSY, SCRAPES = 5, 20, 3, 50


def status(neuron: int) -> NeuronStatus:
    devices = [DeviceStatus(f"cuda{i}", "cuda", "GPU", f"u{i}", 24 << 30, 20 << 30, 23 << 30) for i in range(4)]
    models = [
        ModelStatus(ModelCard(f"model-{neuron}-{i}", Limits(8192)), state="ready", servable=True, devices=["cuda0"])
        for i in range(MODELS)
    ]
    return NeuronStatus(f"n{neuron}", "0", f"boot{neuron}", 1, "ready", devices, [], models)


def observe(requests: RequestMetrics, neuron: int, model: int, dialect: str) -> None:
    meter = RequestMeter("r", dialect, f"model-{neuron}-{model}", None, time.monotonic)
    meter.feed([Started(10, 5, f"n{neuron}"), TextDelta("a"), TextDelta("b")])
    meter.feed([ChoiceFinished("stop"), Finished(Usage(10, 5, 2))])
    requests.observe(meter.finish(200))


def main() -> None:
    entries = [NeuronEntry(name=f"n{i}", endpoint=f"http://127.0.0.1:{9000 + i}") for i in range(NEURONS)]
    loop = Loop(Scheduler(Policy(), entries), perform=lambda _: None)
    metrics = GatewayMetrics()
    requests = RequestMetrics(lambda _: True)
    metrics.attach(loop)
    for neuron in range(NEURONS):
        document = msgspec.convert(msgspec.to_builtins(status(neuron)), NeuronStatus)
        loop.post(lambda scheduler, now, n=neuron, d=document: scheduler.on_status(f"n{n}", d, now))
        for model in range(MODELS):
            for dialect in ("openai_chat", "anthropic_messages"):
                observe(requests, neuron, model, dialect)
    metrics.exposition() + requests.exposition()
    spent_ms, body = [], b""
    for _ in range(SCRAPES):
        for model in range(BUSY):
            observe(requests, 0, model, "openai_chat")
        began = time.process_time()
        body = metrics.exposition() + requests.exposition()
        spent_ms.append((time.process_time() - began) * 1000)
    print(
        f"{NEURONS} neurons x {MODELS} models, {BUSY} of them used since the last scrape: "
        f"{sorted(spent_ms)[SCRAPES // 2]:.1f} ms of CPU time per scrape (median), {len(body) / 1024:.0f} KiB"
    )


if __name__ == "__main__":
    main()
