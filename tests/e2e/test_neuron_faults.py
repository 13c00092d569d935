"""Faults on one of a neuron's two devices don't affect the other device."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.clients import chat_body, open_stream
from tests.e2e.conftest import Launcher
from tests.e2e.models import HELLO, build_talker
from tests.e2e.processes import Daemon, eventually

TWINS = """
[[models]]
id = "left"
file = "left.gguf"
context = 2048
parallel = 2
devices = [0]
[[models]]
id = "right"
file = "right.gguf"
context = 2048
parallel = 2
devices = [1]
"""


@pytest.fixture
def twins(launcher: Launcher, tmp_path: Path) -> Any:
    """Starts a neuron with a model on each of two devices; sections as for `Launcher.neuron`."""
    directory = tmp_path / "twins"
    directory.mkdir()
    for name in ("left", "right"):
        build_talker(directory / f"{name}.gguf")

    def start(**sections: Any) -> Daemon:
        neuron = {"cpu_devices": 2, "cpu_memory": "1GiB", **sections.pop("neuron", {})}
        return launcher.neuron(directory, TWINS, neuron=neuron, **sections)

    return start


def answer(neuron: Daemon, model: str) -> str:
    reply = neuron.post("/v1/chat/completions", chat_body("hello", model))
    assert reply.status_code == 200, reply.text
    return str(reply.json()["choices"][0]["message"]["content"])


def worker(neuron: Daemon, device: str) -> dict[str, Any]:
    (found,) = [item for item in neuron.status()["workers"] if item["devices"] == [device]]
    return dict(found)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=lambda number: number.name)
def test_a_killed_or_stopped_worker_is_replaced_while_the_other_device_streams_on(twins: Any, number: int) -> None:
    neuron = twins(neuron={"heartbeat_s": 5.0}, faults={"decode_delay_s": 0.01})
    assert answer(neuron, "right") == HELLO
    with open_stream(neuron, "forever", model="left", max_tokens=600) as stream:
        stream.first()
        os.kill(worker(neuron, "cpu1")["pid"], number)
        assert answer(neuron, "right") == HELLO
        rest = stream.rest()
        assert stream.finish_reason == "length"
        assert rest.count("t") > 500
    assert worker(neuron, "cpu0").get("restarts", 0) == 0
    assert worker(neuron, "cpu1")["restarts"] == 1


def test_a_fatal_decode_error_replaces_the_worker_and_harms_nobody_else(twins: Any) -> None:
    neuron = twins(faults={"models": ["right"], "decode_fatal_after": 40})
    assert answer(neuron, "left") == HELLO
    with open_stream(neuron, "forever", model="right", max_tokens=600, temperature=1) as stream:
        stream.rest()
        assert stream.error is not None
    eventually(lambda: worker(neuron, "cpu1").get("restarts", 0) >= 1, what="the worker is replaced")
    assert answer(neuron, "left") == HELLO
    assert answer(neuron, "right") == HELLO
    assert worker(neuron, "cpu0").get("restarts", 0) == 0


def test_memory_that_others_hold_is_counted_and_named(twins: Any) -> None:
    neuron = twins(faults={"extra_used_bytes": 1024**3})
    reply = neuron.post("/models/load", {"model": "left"})
    assert reply.status_code == 503
    assert "other programs hold 1073741824" in reply.json()["error"]["message"]


def test_memory_is_back_after_an_unload(twins: Any) -> None:
    """The worker that held it has ended."""
    neuron = twins(neuron={"empty_worker_s": 0.1})
    assert answer(neuron, "left") == HELLO
    pid = worker(neuron, "cpu0")["pid"]
    neuron.post("/models/unload", {"model": "left"})
    eventually(lambda: not Path(f"/proc/{pid}").exists(), what="the worker's process is gone")
    assert neuron.status()["devices"][0].get("used_bytes", 0) == 0
    assert neuron.status().get("ledger", []) == []
