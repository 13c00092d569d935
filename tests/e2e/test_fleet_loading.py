"""Loading and swapping through the gateway, with real neurons, workers and llama.cpp on virtual CPU devices."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx

from tests.e2e.clients import chat_body, open_stream
from tests.e2e.conftest import Launcher
from tests.e2e.fleets import ONE, ask, ask_all, loads, profiles, resident, said_hello, talkers
from tests.e2e.models import HELLO, TICKS
from tests.e2e.processes import PLAIN, Daemon, eventually

QUICK = {"min_residency_s": 1.0, "starvation_s": 10.0}
WIDE = {"queue": 200, "queue_s": 60.0}


def one_of(launcher: Launcher, *names: str, **sections: object) -> tuple[Daemon, Daemon]:
    """A gateway with one neuron that has memory for one of the models."""
    room = {"cpu_memory": ONE}
    neuron = launcher.neuron(talkers(launcher, *names), profiles(*names), neuron=room, eviction=QUICK, **sections)
    return launcher.gateway(neuron, eviction=QUICK, admission=WIDE), neuron


def test_twenty_parallel_cold_requests_make_exactly_one_load(launcher: Launcher) -> None:
    """A public bug of this kind: lmstudio-bug-tracker#1751."""
    gateway, neuron = one_of(launcher, "a")
    assert all(map(said_hello, ask_all(gateway, ["a"] * 20, workers=20)))
    assert loads(neuron) == 1


def test_two_models_with_room_for_one_both_get_all_their_answers_with_few_loads(launcher: Launcher) -> None:
    """A public bug of this kind: llama.cpp#28829."""
    gateway, neuron = one_of(launcher, "a", "b")
    assert all(map(said_hello, ask_all(gateway, ["a", "b"] * 50)))
    assert loads(neuron) <= 20


def test_a_streaming_model_is_not_evicted_and_its_stream_ends_whole(launcher: Launcher) -> None:
    """A public bug of this kind: lmstudio-bug-tracker#1796."""
    gateway, _ = one_of(launcher, "a", "b", faults={"models": ["a"], "decode_delay_s": 0.01})
    with open_stream(gateway, "forever", model="a", max_tokens=100) as stream, ThreadPoolExecutor(1) as pool:
        first = stream.first()
        other = pool.submit(ask, gateway, "b")
        assert first + stream.rest() == TICKS * 50
        assert stream.done
        assert said_hello(other.result())


def test_two_explicit_loads_with_room_for_one_never_leave_two_resident(launcher: Launcher) -> None:
    """A public bug of this kind: llama.cpp#20137."""
    gateway, neuron = one_of(launcher, "a", "b")
    seen: list[set[str]] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            seen.append(resident(neuron))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(2) as pool:
            jobs = list(pool.map(lambda name: gateway.post(f"/fleet/models/{name}/load"), ["a", "b"]))
        assert all(job.is_success for job in jobs)
        eventually(lambda: loads(neuron, "a") and loads(neuron, "b"), what="both were loaded, one after the other")
    finally:
        stop.set()
        watcher.join()
    assert max(map(len, seen)) == 1


def test_a_broken_model_does_not_block_another(launcher: Launcher) -> None:
    """A public bug of this kind: llama-swap#97."""
    faults = {"models": ["a"], "load_fails": 1}
    gateway, _ = one_of(launcher, "a", "b", faults=faults)
    failed = ask(gateway, "a")
    assert failed.status_code == 503
    assert failed.json()["error"]["code"] == "model_load_failed"
    assert said_hello(ask(gateway, "b"))
    eventually(lambda: said_hello(ask(gateway, "a")), what="the load is tried again")


def test_a_worker_killed_while_loading_ends_its_waiters_and_the_next_request_loads(launcher: Launcher) -> None:
    """A public bug of this kind: llama.cpp#20685."""
    gateway, neuron = one_of(launcher, "a", faults={"load_delay_s": 3.0})
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, gateway, "a")
        os.kill(eventually(lambda: _loading_in(neuron, "a"), what="loading"), signal.SIGKILL)
        answer = waiting.result(timeout=50)  # less than the queue's own limit
    assert answer.is_success or answer.json()["error"]["message"]
    eventually(lambda: said_hello(ask(gateway, "a")), what="the next request loads again")


def test_a_waiter_that_leaves_does_not_stop_the_load(launcher: Launcher) -> None:
    gateway, neuron = one_of(launcher, "a", faults={"load_delay_s": 1.5})
    with suppress(httpx.TimeoutException):
        httpx.post(f"{gateway.url}/v1/chat/completions", json=chat_body("hello", model="a"), timeout=0.5, **PLAIN)
    assert said_hello(ask(gateway, "a"))
    assert loads(neuron) == 1
    eventually(lambda: _gauges(gateway) == (0, 0), what="both are gone from the books")


def test_pins_that_leave_no_room_are_named_at_once(launcher: Launcher) -> None:
    """A public bug of this kind: llama.cpp#18153."""
    pinned = profiles("a", "b", a="pinned = true")
    neuron = launcher.neuron(talkers(launcher, "a", "b"), pinned, neuron={"cpu_memory": ONE})
    gateway = launcher.gateway(neuron, admission={"queue_s": 600.0})
    assert said_hello(ask(gateway, "a"))
    refused = ask(gateway, "b")  # who waited in the queue would get no answer before the client gives up
    assert refused.status_code == 503
    assert "retry-after" not in refused.headers
    assert "a is pinned" in refused.json()["error"]["message"]
    assert resident(neuron) == {"a"}


def test_scraping_and_listing_keep_nothing_alive(launcher: Launcher) -> None:
    """A public bug of this kind: llama.cpp#23096."""
    neuron = launcher.neuron(talkers(launcher, "a"), neuron={"cpu_memory": ONE})
    gateway = launcher.gateway(neuron, eviction={"idle_ttl_s": 2.0})
    asked_at = time.monotonic()
    assert said_hello(ask(gateway, "a"))

    def unloaded() -> bool:
        for path in ("/v1/models", "/health", "/fleet"):
            gateway.get(path)
        neuron.get("/metrics")
        return not resident(neuron)

    eventually(unloaded, what="the idle model is unloaded though everybody looks at it")
    assert time.monotonic() - asked_at >= 1.9
    assert loads(neuron) == 1


def test_requests_around_the_idle_unload_are_all_served(launcher: Launcher) -> None:
    """Requests at about the moment when the model's idle time has passed, repeatedly (llama-swap#946)."""
    neuron = launcher.neuron(talkers(launcher, "a"), neuron={"cpu_memory": ONE})
    gateway = launcher.gateway(neuron, eviction={"idle_ttl_s": 0.5})
    for round_ in range(12):
        assert said_hello(ask(gateway, "a"))
        time.sleep(0.3 + 0.06 * round_)  # the moment itself is what is tested


def test_a_conversation_streams_hello_after_a_swap(launcher: Launcher) -> None:
    gateway, _ = one_of(launcher, "a", "b")
    for model in ("a", "b", "a"):
        with open_stream(gateway, "hello", model=model) as stream:
            assert stream.rest() == HELLO


def _loading_in(neuron: Daemon, model: str) -> int | None:
    """The id of the worker process in which `model` is being loaded; None before it, and before it has started."""
    pids = [worker["pid"] for worker in neuron.status()["workers"] if worker.get("pid")]
    return pids[0] if pids and _state(neuron, model) == "loading" else None


def _state(neuron: Daemon, model: str) -> str:
    (status,) = [status for status in neuron.status()["models"] if status["card"]["id"] == model]
    return str(status.get("state", "unloaded"))


def _gauges(gateway: Daemon) -> tuple[int, int]:
    fleet = gateway.get("/fleet").json()
    return sum(m.get("in_flight", 0) for m in fleet["models"]), sum(m.get("queued", 0) for m in fleet["models"])
