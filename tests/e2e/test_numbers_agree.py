"""Metrics, request log, usage in the answers and the engine's counts agree."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.clients import chat_body
from tests.e2e.conftest import Launcher
from tests.e2e.processes import PLAIN, Daemon, eventually

REQUESTS = 200
FIRST_TOKEN_S = 0.35
"""Long compared with the way between client and gateway, and in the middle of a histogram's bucket."""


@dataclass
class Answer:
    """Usage as the client received it."""

    prompt: int
    cached: int
    completion: int


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, model_dir: object) -> Iterator[tuple[Daemon, Daemon]]:
    directory = tmp_path_factory.mktemp("numbers")
    (directory / "models").symlink_to(model_dir)  # type: ignore[arg-type]
    launcher = Launcher(directory, [])
    try:
        neuron = launcher.neuron(faults={"models": ["smollm2"], "decode_delay_s": FIRST_TOKEN_S})
        yield launcher.gateway(neuron, admission={"in_flight": 8, "queue": 64}), neuron
    finally:
        launcher.stop()


def ask(gateway: Daemon, number: int) -> Answer:
    """Four kinds of requests in turn: chat and messages, streamed and not."""
    kind, words = number % 4, ["hello", "emoji", "forever"][number % 3]
    if kind == 0:
        usage = gateway.post("/v1/chat/completions", chat_body(words, max_tokens=8)).raise_for_status().json()["usage"]
        return openai(usage)
    if kind == 1:
        body = chat_body(words, max_tokens=8)
        usage = gateway.post("/v1/messages", body).raise_for_status().json()["usage"]
        return anthropic(usage)
    path = "/v1/chat/completions" if kind == 2 else "/v1/messages"
    extra = {"stream_options": {"include_usage": True}} if kind == 2 else {}
    return streamed(gateway, path, chat_body(words, max_tokens=8, stream=True, **extra))


def streamed(gateway: Daemon, path: str, body: dict[str, object]) -> Answer:
    usage: dict[str, Any] = {}
    with httpx.stream("POST", gateway.url + path, json=body, timeout=120, **PLAIN) as response:
        for line in response.iter_lines():
            if line.startswith("data: {"):
                usage = json.loads(line.removeprefix("data: ")).get("usage") or usage
    return openai(usage) if "completion_tokens" in usage else anthropic(usage)


def openai(usage: dict[str, Any]) -> Answer:
    return Answer(usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"], usage["completion_tokens"])


def anthropic(usage: dict[str, int]) -> Answer:
    cached = usage["cache_read_input_tokens"]
    return Answer(usage["input_tokens"] + cached, cached, usage["output_tokens"])


def samples(text: str, name: str) -> dict[tuple[str, ...], float]:
    """Values of one sample name by its sorted label values."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def test_four_sources_count_200_mixed_requests_alike(fleet: tuple[Daemon, Daemon]) -> None:
    gateway, neuron = fleet
    gateway.post("/v1/chat/completions", chat_body("hello", max_tokens=1)).raise_for_status()
    with ThreadPoolExecutor(8) as clients:
        answers = [Answer(0, 0, 0), *clients.map(lambda number: ask(gateway, number), range(REQUESTS - 1))]
    # the first answer's numbers come from its log line, as every other's do
    lines = eventually(lambda: lines if len(lines := gateway.events("request")) >= REQUESTS else [])
    assert len(lines) == REQUESTS
    first = lines[0]
    answers[0] = Answer(first["prompt_tokens"], first["cached_tokens"], first["completion_tokens"])
    told = Counter(
        prompt=sum(answer.prompt for answer in answers),
        cached=sum(answer.cached for answer in answers),
        completion=sum(answer.completion for answer in answers),
    )

    assert Counter({kind: sum(line[f"{kind}_tokens"] for line in lines) for kind in told}) == told

    eventually(lambda: sum(samples(scrape(gateway), "cortex_requests_total").values()) == REQUESTS)
    counted = samples(scrape(gateway), "cortex_tokens_total")
    assert {kind: counted[kind, "talker"] for kind in told} == dict(told)

    def engine() -> dict[str, int]:
        model = next(model for model in neuron.status()["models"] if model["card"]["id"] == "talker")
        return {kind: model[f"{kind}_tokens_total"] for kind in told}

    eventually(lambda: engine() == dict(told), what=f"the engine counts {engine()}, clients were told {dict(told)}")


def test_the_histograms_median_ttft_is_the_clients(fleet: tuple[Daemon, Daemon]) -> None:
    gateway, _ = fleet
    gateway.post("/v1/chat/completions", chat_body("hello", "smollm2", max_tokens=1)).raise_for_status()
    before = ttft_buckets(gateway)
    with httpx.Client(timeout=60, **PLAIN) as client:
        seen = sorted(first_token_s(client, gateway) for _ in range(11))

    def buckets() -> dict[float, float]:
        return {bound: count - before.get(bound, 0) for bound, count in ttft_buckets(gateway).items()}

    eventually(lambda: max(buckets().values()) == 11, what="eleven answers are counted")
    bounds = sorted(counted := buckets())
    median_at = next(index for index, bound in enumerate(bounds) if counted[bound] > 5)
    client_at = next(index for index, bound in enumerate(bounds) if bound >= seen[5])
    assert bounds[median_at] > FIRST_TOKEN_S
    assert client_at - 1 <= median_at <= client_at  # the client waits a little longer than its gateway


def first_token_s(client: httpx.Client, gateway: Daemon) -> float:
    body = chat_body("hello", "smollm2", max_tokens=1, stream=True, temperature=0)
    began, first = time.monotonic(), 0.0
    with client.stream("POST", f"{gateway.url}/v1/chat/completions", json=body) as response:
        for line in response.iter_lines():
            if not first and '"content":"' in line and '"content":""' not in line:
                first = time.monotonic() - began
    assert first
    return first


def ttft_buckets(gateway: Daemon) -> dict[float, float]:
    """Cumulative counts by upper bound."""
    found = samples(scrape(gateway), "cortex_time_to_first_token_seconds_bucket")
    return {float(labels[0]): count for labels, count in found.items()}


def scrape(gateway: Daemon) -> str:
    (url,) = gateway.wait_for("listening")["also"]
    return httpx.get(f"{url}/metrics", timeout=60, **PLAIN).text
