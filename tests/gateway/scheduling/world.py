"""The scheduler with FakeNeurons around it, no event loop: effects are applied at once, replies are recorded."""

from __future__ import annotations

from collections.abc import Sequence

from cortex.config.settings import EvictionConfig, NeuronEntry
from cortex.errors import CortexError, Unavailable
from cortex.gateway.scheduling.effects import (
    Effect,
    Grant,
    Job,
    ModelReady,
    OrderLoad,
    OrderUnload,
    Outcome,
    OutcomeKind,
    PollNeuron,
    Reject,
)
from cortex.gateway.scheduling.model_queue import Bounds
from cortex.gateway.scheduling.policy import Policy
from cortex.gateway.scheduling.scheduler import Scheduler
from cortex.wire.status import LoadOrder, UnloadOrder
from tests.fake_neuron import FakeModel, FakeNeuron, ManualClock, chat

__all__ = ["World", "models", "policy"]


def policy(
    *, in_flight: int = 8, queue: int = 100, queue_s: float = 30.0, tries: int = 3, **eviction: object
) -> Policy:
    rules = EvictionConfig(**{"min_residency_s": 0.0, **eviction})  # type: ignore[arg-type]
    return Policy(bounds=Bounds(in_flight, queue, queue_s, 2), eviction=rules, tries=tries)


class World:
    """`granted` maps running jobs to neurons, `refused` ended ones to their failure. With `slow_loads` an order stays
    open until `finish(model)`."""

    def __init__(self, neurons: Sequence[FakeNeuron], rules: Policy | None = None, *, slow_loads: bool = False) -> None:
        self.clock = ManualClock()
        self.neurons = {neuron.name: neuron for neuron in neurons}
        for neuron in neurons:
            neuron.clock = self.clock
        entries = [NeuronEntry(name=name, endpoint=f"http://{name}") for name in self.neurons]
        self.scheduler = Scheduler(rules or policy(), entries)
        self.slow_loads = slow_loads
        self.granted: dict[str, str] = {}
        self.refused: dict[str, Reject] = {}
        self.resident: dict[str, str] = {}
        self.done: set[str] = set()
        self.model_of: dict[str, str] = {}
        self.open_orders: list[OrderLoad | OrderUnload] = []
        self.effects: list[Effect] = []
        self.poll()

    @property
    def now(self) -> float:
        return self.clock.now

    # ---- events

    def poll(self, *names: str) -> None:
        for name in names or self.neurons:
            neuron = self.neurons[name]
            if neuron.alive and not neuron.hung:
                self._apply(self.scheduler.on_status(name, neuron.status(), self.now))
            else:
                self._apply(self.scheduler.on_unreachable(name, "no answer", self.now))

    def ask(self, job_id: str, model: str = "a", principal: str | None = None, text: str = "hi") -> None:
        request = chat(model, text, job_id=job_id, principal=principal)
        self.model_of[job_id] = model
        job = Job(job_id, model, self.now, request, principal, patient=True)
        self._apply(self.scheduler.on_request(job, self.now))

    def cancel(self, job_id: str) -> None:
        self._leave(job_id)
        self.done.add(job_id)
        self._apply(self.scheduler.on_cancel(job_id, self.now))

    def end(self, job_id: str, verdict: OutcomeKind = OutcomeKind.DONE) -> None:
        self._leave(job_id)
        self.done.add(job_id)
        self._apply(self.scheduler.on_ended(job_id, Outcome(verdict), self.now))

    def breaks(self, job_id: str, verdict: OutcomeKind = OutcomeKind.BROKEN_EARLY) -> None:
        self._leave(job_id)
        self._apply(self.scheduler.on_broken(job_id, Outcome(verdict, "it broke"), self.now))

    def tick(self, seconds: float = 0.5) -> None:
        self.clock.advance(seconds)
        self._apply(self.scheduler.on_tick(self.now))

    def finish(self, model: str) -> None:
        """Carry out the open order for `model`, as the errands do: act, poll, report."""
        order = next(order for order in self.open_orders if order.model == model)
        self.open_orders.remove(order)
        neuron = self.neurons[order.neuron]
        error: CortexError | None = None
        try:
            if not neuron.alive:
                raise Unavailable("lost")
            if isinstance(order, OrderLoad):
                neuron.finish_load(order.model)
            else:
                neuron.unload(UnloadOrder(order.model, order.force, revision=order.revision))
        except CortexError as failure:
            error = failure
        self.poll(order.neuron)
        self._apply(self.scheduler.on_ordered(order.neuron, order.model, error, self.now))

    # ---- effects

    def _apply(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            self.effects.append(effect)
            match effect:
                case Grant(job_id=job_id, neuron=name):
                    assert job_id not in self.granted, f"{job_id} was granted twice"
                    self._assert_open(job_id)
                    self.granted[job_id] = name
                    if self.neurons[name].alive:
                        self.neurons[name].began(self.model_of[job_id])
                case Reject(job_id=job_id):
                    self._assert_open(job_id)
                    self.refused[job_id] = effect
                case ModelReady(job_id=job_id, neuron=name):
                    self.resident[job_id] = name
                case OrderLoad():
                    self._start(effect)
                case OrderUnload():
                    self.open_orders.append(effect)
                    if not self.slow_loads:
                        self.finish(effect.model)
                case PollNeuron(neuron=name) if not self.slow_loads:
                    self.poll(name)

    def _start(self, effect: OrderLoad) -> None:
        neuron = self.neurons[effect.neuron]
        order = LoadOrder(effect.model, list(effect.devices), list(effect.evict), revision=effect.revision)
        try:
            if not neuron.alive:
                raise Unavailable("lost")
            neuron.start_load(order)
        except CortexError as error:
            self.poll(effect.neuron)
            self._apply(self.scheduler.on_ordered(effect.neuron, effect.model, error, self.now))
            return
        self.open_orders.append(effect)
        if not self.slow_loads:
            self.finish(effect.model)

    def _leave(self, job_id: str) -> None:
        name = self.granted.pop(job_id, None)
        if name is not None and self.neurons[name].alive:
            self.neurons[name].ended(self.model_of[job_id])

    def _assert_open(self, job_id: str) -> None:
        assert job_id not in self.refused, f"{job_id} was answered after it was refused"
        assert job_id not in self.done, f"{job_id} was answered after its end"


def models(*names: str, mib: int = 100) -> list[FakeModel]:
    return [FakeModel(name, mib) for name in names]
