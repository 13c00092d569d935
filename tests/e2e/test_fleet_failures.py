"""Neurons that die, hang and restart; gateways that restart, reload and share a neuron."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.e2e.clients import open_stream
from tests.e2e.conftest import Launcher
from tests.e2e.fleets import ONE, ask, loads, profiles, resident, said_hello, talkers
from tests.e2e.models import TICKS
from tests.e2e.processes import PLAIN, Daemon, eventually

SLOW = {"models": ["a"], "decode_delay_s": 0.03}


def killed(launcher: Launcher, daemon: Daemon) -> None:
    """SIGKILL; no clean exit is expected then. Its workers end by themselves without their parent."""
    daemon.signal(signal.SIGKILL)
    daemon.wait()
    launcher.started.remove(daemon)


@contextmanager
def stopped(daemon: Daemon) -> Iterator[None]:
    """SIGSTOP: connections stay open, but the process sends nothing."""
    daemon.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        daemon.signal(signal.SIGCONT)


def pair(launcher: Launcher, **sections: object) -> tuple[Daemon, Daemon, Daemon]:
    """A gateway with two neurons that both have model a loaded."""
    directory = talkers(launcher, "a")
    neurons = [
        launcher.neuron(directory, profiles("a"), neuron={"cpu_memory": ONE, "default_models": ["a"]}, faults=SLOW)
        for _ in range(2)
    ]
    for neuron in neurons:
        eventually(lambda neuron=neuron: resident(neuron) == {"a"})  # type: ignore[misc]
    gateway = launcher.gateway(*neurons, **sections)
    return gateway, neurons[0], neurons[1]


def serving(gateway: Daemon) -> str:
    """The neuron that runs the only request."""
    (request,) = eventually(lambda: gateway.get("/fleet").json().get("requests"))
    return str(request["neuron"])


@pytest.mark.parametrize("sampling", [{"temperature": 0}, {"temperature": 1.0, "seed": 7}], ids=["greedy", "seeded"])
def test_a_repeatable_stream_outlives_the_neuron_it_began_on(launcher: Launcher, sampling: dict[str, float]) -> None:
    """The answer is continued where it stopped, and the dead neuron is reported as down."""
    gateway, *neurons = pair(launcher)
    with open_stream(gateway, "forever", model="a", max_tokens=200, **sampling) as stream:
        first = stream.first()
        name = serving(gateway)
        killed(launcher, neurons[int(name[1:])])
        assert first + stream.rest() == TICKS * 100
        assert stream.done
    shown = {neuron["name"]: neuron["health"] for neuron in gateway.get("/fleet").json()["neurons"]}
    assert shown[name] == "down"
    assert said_hello(ask(gateway, "a"))


def test_a_sampled_stream_whose_neuron_dies_ends_with_an_error(launcher: Launcher) -> None:
    gateway, *neurons = pair(launcher)
    with open_stream(gateway, "forever", model="a", max_tokens=1000, temperature=1.0) as stream:
        stream.first()
        killed(launcher, neurons[int(serving(gateway)[1:])])
        stream.rest()
        assert stream.error is not None
        assert not stream.finish_reason
    assert said_hello(ask(gateway, "a"))


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_a_neuron_that_stops_sending_is_given_up_within_the_limit(launcher: Launcher, temperature: float) -> None:
    """A repeatable stream continues on another neuron, another one ends with an error."""
    gateway, *neurons = pair(launcher, limits={"stall_s": 3.0}, gateway={"silence_s": 600.0, "connect_s": 300.0})
    with open_stream(gateway, "forever", model="a", max_tokens=200, temperature=temperature) as stream:
        first = stream.first()
        with stopped(neurons[int(serving(gateway)[1:])]):
            begun = time.monotonic()
            text = first + stream.rest()
            assert time.monotonic() - begun < 60
    if temperature:
        assert stream.error is not None
    else:
        assert text == TICKS * 100


def test_a_restarted_gateway_finds_what_is_loaded(launcher: Launcher) -> None:
    neuron = launcher.neuron(talkers(launcher, "a"), profiles("a"), neuron={"cpu_memory": ONE})
    first = launcher.gateway(neuron)
    assert said_hello(ask(first, "a"))
    killed(launcher, first)
    assert said_hello(ask(launcher.gateway(neuron), "a"))
    assert loads(neuron) == 1


def test_a_neuron_that_comes_back_with_other_models_is_followed(launcher: Launcher) -> None:
    before = launcher.neuron(talkers(launcher, "a"), profiles("a"), neuron={"cpu_memory": ONE})
    gateway = launcher.gateway(before)
    assert said_hello(ask(gateway, "a"))
    listen = before.url.removeprefix("http://")
    killed(launcher, before)
    launcher.neuron(talkers(launcher, "b"), profiles("b"), neuron={"cpu_memory": ONE, "listen": listen})
    eventually(lambda: said_hello(ask(gateway, "b")), what="the new model is served")
    assert ask(gateway, "a").status_code == 404


def test_two_gateways_over_one_neuron_both_get_their_answers(launcher: Launcher) -> None:
    quick = {"min_residency_s": 0.2, "starvation_s": 5.0}
    neuron = launcher.neuron(
        talkers(launcher, "a", "b"), profiles("a", "b"), neuron={"cpu_memory": ONE}, eviction=quick
    )
    gateways = [launcher.gateway(neuron, eviction=quick) for _ in range(2)]
    work = [(gateway, model) for _ in range(5) for gateway, model in zip(gateways, "ab", strict=True)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda item: ask(*item), work))
    assert all(map(said_hello, answers)), [answer.text for answer in answers if not said_hello(answer)]


def test_a_changed_file_adds_a_neuron_and_a_broken_one_changes_nothing(launcher: Launcher) -> None:
    """A public bug of this kind: llama-swap#281."""
    room = {"cpu_memory": ONE}
    a = launcher.neuron(talkers(launcher, "a"), profiles("a"), neuron=room)
    b = launcher.neuron(talkers(launcher, "b"), profiles("b"), neuron=room)
    path = launcher.directory / "gateway.toml"
    head = '[gateway]\nlisten = "127.0.0.1:0"\nmetrics_listen = "127.0.0.1:0"\n'
    entries = [f'[[neurons]]\nname = "{n}"\nendpoint = "{daemon.url}"\n' for n, daemon in (("a", a), ("b", b))]
    path.write_text(head + entries[0])
    gateway = launcher.start(["gateway", "--config", str(path)])
    assert said_hello(ask(gateway, "a"))
    replaced(path, "[gateway]\nlistn = 1\n")
    eventually(lambda: "listn" in gateway.get("/fleet").json().get("config_error", ""), what="the error is shown")
    assert said_hello(ask(gateway, "a"))
    replaced(path, head + "".join(entries))
    os.kill(gateway.pid, signal.SIGHUP)
    eventually(lambda: said_hello(ask(gateway, "b")), what="the new neuron serves")
    assert not gateway.get("/fleet").json().get("config_error")


def replaced(path: Path, text: str) -> None:
    """Replace the file atomically: a reader in between would find an empty file, which is a valid one."""
    fresh = path.with_suffix(".fresh")
    fresh.write_text(text)
    fresh.replace(path)


def test_an_open_event_feed_does_not_hold_the_gateway_up(launcher: Launcher) -> None:
    neuron = launcher.neuron(talkers(launcher, "a"), profiles("a"), neuron={"cpu_memory": ONE})
    gateway = launcher.gateway(neuron, limits={"drain_s": 600.0})
    with httpx.stream("GET", f"{gateway.url}/fleet/events", timeout=60, **PLAIN) as feed:
        lines = feed.iter_lines()
        assert next(lines) == "event: snapshot"
        gateway.signal(signal.SIGTERM)
        assert gateway.wait() == 0


def test_a_neuron_tells_its_gateway_what_changes_and_takes_its_profiles(launcher: Launcher) -> None:
    """A model loaded by hand, profiles pushed, the neuron's death."""
    neuron = launcher.neuron(talkers(launcher, "a"), neuron={"cpu_memory": ONE})
    models = launcher.directory / "pushed.toml"
    models.write_text('[[models]]\nid = "a"\naliases = ["fast"]\nparallel = 3\n')
    gateway = launcher.gateway(neuron, gateway={"push_profiles": True}, models=models)
    card = eventually(lambda: neuron.status().get("profiles") and neuron.status()["models"][0]["card"])
    eventually(lambda: neuron.status()["models"][0]["card"].get("parallel") == 3, what=f"laid over {card}")
    neuron.post("/models/load", {"model": "fast"})
    eventually(lambda: _loaded_on(gateway, "a") == ["n0"], what="the load is known")
    assert said_hello(ask(gateway, "fast"))
    killed(launcher, neuron)
    eventually(lambda: gateway.get("/fleet").json()["neurons"][0]["health"] == "down", what="it is down")


def _loaded_on(gateway: Daemon, model: str) -> list[str]:
    (entry,) = [entry for entry in gateway.get("/fleet").json()["models"] if entry["id"] == model]
    return list(entry.get("loaded_on", []))
