"""Cached prefixes are kept over an unload and a load of their model."""

from __future__ import annotations

from tests.e2e.clients import chat_body
from tests.e2e.conftest import Launcher
from tests.e2e.processes import Daemon


def cached_tokens(neuron: Daemon, question: str) -> int:
    reply = neuron.post("/v1/chat/completions", chat_body(question, "smollm2", max_tokens=4, temperature=0))
    assert reply.status_code == 200, reply.text
    return int(reply.json()["usage"]["prompt_tokens_details"]["cached_tokens"])


def test_a_prefix_is_still_cached_after_an_unload_and_a_load(launcher: Launcher) -> None:
    neuron = launcher.neuron(neuron={"empty_worker_s": 0.1})
    question = "Tell me about the sea. " * 20
    assert cached_tokens(neuron, question) < 30
    neuron.post("/models/unload", {"model": "smollm2"})
    assert cached_tokens(neuron, question) > 80
