"""A stress test: three neurons with memory for one model each, five models, sixteen clients, neurons that are killed.

The normal run is small; `CORTEX_STORM=2000` runs that many requests with a kill every 20 s (the full size).
"""

from __future__ import annotations

import os
import random
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.e2e.clients import chat_body
from tests.e2e.conftest import Launcher
from tests.e2e.fleets import ONE, profiles, talkers
from tests.e2e.models import HELLO
from tests.e2e.processes import PLAIN, Daemon, eventually
from tests.gateway.scheduling.storm import fewest_loads

REQUESTS = int(os.environ.get("CORTEX_STORM", "160"))
KILL_EVERY_S = 20.0 if REQUESTS >= 2000 else 8.0
LOADS_BOUND = 3
CLIENTS = 16
MODELS = ["a", "b", "c", "d", "e"]
ANSWER_S = 120.0


@dataclass
class Tally:
    """How requests ended. `hung` and `wrong` must stay empty."""

    answered: int = 0
    refused: int = 0
    cancelled: int = 0
    hung: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class Storm:
    def __init__(self, launcher: Launcher, directory: Path) -> None:
        self.launcher = launcher
        self.directory = directory
        quick = {"min_residency_s": 5.0, "starvation_s": 20.0}
        self.rules = {"eviction": quick, "admission": {"in_flight": 8, "queue": 100, "queue_s": 90.0}}
        self.neurons = [self.neuron("127.0.0.1:0") for _ in range(3)]
        self.dead: list[Daemon] = []
        self.kills = 0
        self.gateway = launcher.gateway(*self.neurons, **self.rules)

    def neuron(self, listen: str) -> Daemon:
        return self.launcher.neuron(
            self.directory, profiles(*MODELS), neuron={"cpu_memory": ONE, "listen": listen}, **self.rules
        )

    def kill_and_restart(self, choice: random.Random) -> None:
        index = choice.randrange(len(self.neurons))
        victim = self.neurons[index]
        listen = victim.url.removeprefix("http://")
        victim.signal(signal.SIGKILL)
        victim.wait()
        self.launcher.started.remove(victim)
        self.dead.append(victim)
        self.kills += 1
        self.neurons[index] = self.neuron(listen)

    def ask(self, choice: random.Random, model: str, tally: Tally) -> None:
        """One request of a client; one in ten disconnects early."""
        body = chat_body("hello", model=model, stream=choice.random() < 0.5, temperature=0)
        patience = 0.05 + choice.random() if choice.random() < 0.1 else ANSWER_S
        url = f"{self.gateway.url}/v1/chat/completions"
        try:
            answer = httpx.post(url, json=body, timeout=patience, **PLAIN)
        except httpx.TimeoutException:
            if patience == ANSWER_S:
                tally.hung.append(model)
            else:
                tally.cancelled += 1
            return
        self._judge(answer, tally)

    def _judge(self, answer: httpx.Response, tally: Tally) -> None:
        if answer.is_success and ('"error"' not in answer.text):
            complete = HELLO in answer.text or answer.text.count("data: ") > 5
            tally.answered += 1
            if not complete:
                tally.wrong.append(answer.text)
        elif '"message":' in answer.text:
            tally.refused += 1
        else:
            tally.wrong.append(answer.text)

    def loads(self) -> int:
        return sum(len(daemon.events("model loaded")) for daemon in [*self.neurons, *self.dead])


@pytest.mark.timeout(1800 if REQUESTS >= 2000 else 900)
def test_every_request_of_a_storm_is_answered_or_refused_and_nothing_is_left_behind(launcher: Launcher) -> None:
    storm = Storm(launcher, talkers(launcher, *MODELS))
    tally, stop = Tally(), threading.Event()
    sequences = [random.Random(seed).choices(MODELS, k=REQUESTS // CLIENTS) for seed in range(CLIENTS)]

    def client(number: int) -> None:
        choice = random.Random(number + 1000)
        for model in sequences[number]:
            storm.ask(choice, model, tally)

    def reaper() -> None:
        choice = random.Random(7)
        while not stop.wait(KILL_EVERY_S):
            storm.kill_and_restart(choice)

    with ThreadPoolExecutor(CLIENTS + 1) as pool:
        killing = pool.submit(reaper)
        clients = [pool.submit(client, number) for number in range(CLIENTS)]
        try:
            for each in clients:
                each.result()
        finally:
            stop.set()
        killing.result()
    assert (tally.hung, tally.wrong) == ([], [])
    assert tally.answered + tally.refused + tally.cancelled == REQUESTS // CLIENTS * CLIENTS
    assert tally.answered >= 0.8 * REQUESTS
    eventually(lambda: at_rest(storm.gateway), what="all gauges at zero")
    for neuron in storm.neurons:
        eventually(lambda neuron=neuron: not neuron.status().get("requests"))  # type: ignore[misc]
    print(f"loads {storm.loads()}, fewest {fewest_loads(sequences, 3)}, kills {storm.kills}, {tally}")
    assert storm.loads() <= LOADS_BOUND * (fewest_loads(sequences, 3) + storm.kills)


def at_rest(gateway: Daemon) -> bool:
    fleet = gateway.get("/fleet").json()
    counts = [model.get("in_flight", 0) + model.get("queued", 0) for model in fleet["models"]]
    return not any(counts) and not fleet.get("requests")
