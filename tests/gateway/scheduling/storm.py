"""A storm without processes: clients that ask one thing after the other, loads that take time, and a clock by hand."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from cortex.gateway.scheduling.effects import OrderLoad, OrderUnload
from cortex.gateway.scheduling.policy import Policy
from tests.fake_neuron import FakeNeuron
from tests.gateway.scheduling.world import World, models, policy

__all__ = ["MODELS", "Storm", "drawn", "fewest_loads"]

MODELS = ["a", "b", "c", "d", "e"]


@dataclass
class Storm:
    """Three neurons with room for one model each, five models; every client asks its sequence, one at a time.

    One request in ten is given up early, a neuron dies every `kill_every_s`. Seconds vary by half around what is given,
    thinking by all of it. `waits` are the seconds that each request waited for its place, `kills` counts the dead.
    """

    sequences: Sequence[Sequence[str]]
    load_s: float
    service_s: float
    rules: Policy = field(default_factory=policy)
    waits: list[float] = field(default_factory=list)
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    think_s: float = 0.0
    proof_s: float = 0.3
    kill_every_s: float = 8.0
    dead_s: float = 2.0
    kills: int = 0

    def run(self) -> World:
        """To the last client's end."""
        self._order = count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        world = self.world = World([self._neuron(n) for n in range(3)], self.rules, slow_loads=True)
        self._places = [0] * len(self.sequences)
        self._asked: dict[str, float] = {}
        self._granted: set[str] = set()
        self._loading: list[OrderLoad | OrderUnload] = []
        self._at(0.5, self._tick)
        self._at(self.kill_every_s, self._kill)
        for client in range(len(self.sequences)):
            self._ask(client)
        while not self._over():
            at, _, event = heapq.heappop(self._due)
            world.clock.now = at
            event()
            self._follow()
        return world

    def _neuron(self, number: int) -> FakeNeuron:
        fakes = models(*MODELS)
        for model in fakes:
            model.load_s = self.load_s
        return FakeNeuron(f"n{number}", fakes)

    def _at(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.world.now + seconds, next(self._order), event))

    def _tick(self) -> None:
        self.world.tick(0.0)
        self._at(0.5, self._tick)

    def _kill(self) -> None:
        """A neuron dies, its requests move, and it comes back empty."""
        victim = self.chance.choice(list(self.world.neurons.values()))
        if victim.alive:
            self.kills += 1
            victim.kill()
            self.world.poll(victim.name)
            self.world.open_orders = [o for o in self.world.open_orders if o.neuron != victim.name]
            for job in [job for job, name in self.world.granted.items() if name == victim.name]:
                self._granted.discard(job)
                self.world.breaks(job)
            self._at(self.dead_s, lambda: self._revive(victim))
        self._at(self.kill_every_s, self._kill)

    def _revive(self, victim: FakeNeuron) -> None:
        victim.restart()
        self.world.poll(victim.name)

    def _ask(self, client: int) -> None:
        place = self._places[client]
        if place == len(self.sequences[client]):
            return
        job = f"{client}:{place}"
        self._asked[job] = self.world.now
        self.world.ask(job, self.sequences[client][place], principal=str(client))
        self._follow()
        if self.chance.random() < 0.1:
            self._at(0.05 + self.chance.random(), lambda: self._leave(job))

    def _leave(self, job: str) -> None:
        """An impatient client goes."""
        if job not in self.world.done and job not in self.world.refused:
            self._finish(job, self.world.cancel)

    def _follow(self) -> None:
        """Give what was just begun its end."""
        for job in sorted(set(self.world.granted) - self._granted):  # a set's order is another in every run
            self._granted.add(job)
            self.waits.append(self.world.now - self._asked[job])
            self._at(self.service_s * (0.5 + self.chance.random()), lambda job=job: self._end(job))  # type: ignore[misc]
        for order in self.world.open_orders:
            if not any(known is order for known in self._loading):
                self._loading.append(order)
                self._at(self.load_s * (0.5 + self.chance.random()), lambda order=order: self._loaded(order))  # type: ignore[misc]

    def _loaded(self, order: OrderLoad | OrderUnload) -> None:
        if not any(known is order for known in self.world.open_orders):
            return
        neuron = self.world.neurons[order.neuron]
        neuron.models[order.model].servable = not isinstance(order, OrderLoad)
        self.world.finish(order.model)
        self._at(self.proof_s, lambda: self._proved(neuron, order.model))

    def _proved(self, neuron: FakeNeuron, model: str) -> None:
        """A heartbeat tells that the model decodes."""
        neuron.models[model].servable = True
        self.world.poll(neuron.name)

    def _end(self, job: str) -> None:
        if job in self.world.granted:  # neither gone nor moved to another neuron meanwhile
            self._finish(job, self.world.end)

    def _finish(self, job: str, how: Callable[[str], None]) -> None:
        how(job)
        client = int(job.partition(":")[0])
        self._places[client] += 1
        self._at(self.think_s * 2 * self.chance.random(), lambda: self._ask(client))

    def _over(self) -> bool:
        return all(place == len(each) for place, each in zip(self._places, self.sequences, strict=True))


def fewest_loads(sequences: Sequence[Sequence[str]], room: int) -> int:
    """Loads of a schedule that knows all: it serves what it can before it swaps, and swaps in what most wait for."""
    places = [0] * len(sequences)
    resident: list[str] = []
    loads = 0
    while True:
        for client, sequence in enumerate(sequences):
            while places[client] < len(sequence) and sequence[places[client]] in resident:
                places[client] += 1
        wanted = [s[p] for s, p in zip(sequences, places, strict=True) if p < len(s)]
        if not wanted:
            return loads
        resident = [max(sorted(set(wanted)), key=wanted.count), *resident][:room]
        loads += 1


def drawn(each: int, clients: int = 16, seed: int = 0) -> list[list[str]]:
    """What each client asks for, one after the other."""
    return [random.Random(seed + number).choices(MODELS, k=each) for number in range(clients)]
