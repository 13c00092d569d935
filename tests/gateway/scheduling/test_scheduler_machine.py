"""Random lives of a fleet: whatever happens in whatever order, the scheduler keeps its promises.

FakeNeuron asserts on its side that no pinned or busy model is evicted and that no ledger is exceeded; World asserts
that no job is granted twice or answered after its end.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cortex.gateway.scheduling.effects import OutcomeKind
from cortex.wire.status import Limits, ModelCard
from tests.fake_neuron import FakeModel, FakeNeuron
from tests.gateway.scheduling.world import World, policy

MODELS = ["a", "b", "c", "pinned"]
VERDICTS = [OutcomeKind.DONE, OutcomeKind.FAILED]


def fleet(count: int, room: int) -> list[FakeNeuron]:
    protected = ModelCard(id="pinned", limits=Limits(context=64), pinned=True)
    copied = ModelCard(id="a", limits=Limits(context=64), replicas_max=2, idle_ttl_s=20.0)
    models = [FakeModel("a", 90, copied), FakeModel("b", 60), FakeModel("c", 110), FakeModel("pinned", 50, protected)]
    return [FakeNeuron(f"n{i}", models, (room, room) if i else (room,)) for i in range(count)]


class Fleet(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.killed: set[str] = set()

    @initialize(
        neurons=st.integers(1, 3),
        room=st.sampled_from([120, 200]),
        strategy=st.sampled_from(["lru", "priority"]),
        slow=st.booleans(),
    )
    def begin(self, neurons: int, room: int, strategy: str, slow: bool) -> None:
        rules = policy(in_flight=2, queue=3, queue_s=20.0, strategy=strategy, min_residency_s=1.0, starvation_s=15.0)
        self.world = World(fleet(neurons, room), rules, slow_loads=slow)

    @rule(model=st.sampled_from(MODELS), principal=st.sampled_from([None, "k1", "k2"]))
    def ask(self, model: str, principal: str | None) -> None:
        self.asked += 1
        self.world.ask(f"j{self.asked}", model, principal)

    @precondition(lambda self: self.world.granted)
    @rule(data=st.data(), verdict=st.sampled_from(VERDICTS))
    def end(self, data: st.DataObject, verdict: OutcomeKind) -> None:
        self.world.end(data.draw(st.sampled_from(sorted(self.world.granted))), verdict)

    @precondition(lambda self: self.open_jobs())
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.world.cancel(data.draw(st.sampled_from(self.open_jobs())))

    @precondition(lambda self: self.world.granted)
    @rule(data=st.data(), early=st.booleans())
    def breaks(self, data: st.DataObject, early: bool) -> None:
        job = data.draw(st.sampled_from(sorted(self.world.granted)))
        self.world.breaks(job, OutcomeKind.BROKEN_EARLY if early else OutcomeKind.BROKEN_LATE)

    @precondition(lambda self: self.world.open_orders)
    @rule(data=st.data(), fails=st.booleans())
    def finish_order(self, data: st.DataObject, fails: bool) -> None:
        order = data.draw(st.sampled_from(self.world.open_orders))
        neuron = self.world.neurons[order.neuron]
        if fails:
            neuron.models[order.model].load_fails = 1
        self.world.finish(order.model)
        neuron.models[order.model].load_fails = 0

    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        """Its running requests break, its orders fail; sooner or later a poll tells."""
        name = data.draw(st.sampled_from(sorted(self.world.neurons)))
        self.world.neurons[name].kill()
        for job in [job for job, where in self.world.granted.items() if where == name]:
            self.world.breaks(job)
        self.world.open_orders = [order for order in self.world.open_orders if order.neuron != name]

    @rule(data=st.data())
    def restart(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.neurons)))
        if not self.world.neurons[name].alive:
            self.world.neurons[name].restart()

    @rule(data=st.data())
    def poll(self, data: st.DataObject) -> None:
        self.world.poll(data.draw(st.sampled_from(sorted(self.world.neurons))))

    @rule(seconds=st.sampled_from([0.1, 0.5, 3.0, 10.0]))
    def tick(self, seconds: float) -> None:
        self.world.tick(seconds)

    @rule()
    def a_quiet_moment(self) -> None:
        """All is answered and polled: now models may be swapped."""
        for order in list(self.world.open_orders):
            self.world.finish(order.model)
        for job in sorted(self.world.granted):
            self.world.end(job)
        self.world.poll()
        self.world.tick(1.5)

    @rule(data=st.data(), drained=st.booleans())
    def drain(self, data: st.DataObject, drained: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.neurons)))
        self.world._apply(self.world.scheduler.on_drain(name, drained, self.world.now))

    @rule(data=st.data())
    def somebody_else_loads(self, data: st.DataObject) -> None:
        """Another gateway changes the neuron: our next order there is refused and decided anew."""
        neuron = self.world.neurons[data.draw(st.sampled_from(sorted(self.world.neurons)))]
        idle = [m for m in neuron.models.values() if m.state == "ready" and not m.running]
        if idle and neuron.alive:
            neuron._vacate(idle[0])

    @invariant()
    def every_job_is_in_one_place(self) -> None:
        tickets = self.world.scheduler.state.tickets()
        waiting = {ticket.job.id for ticket in tickets if ticket.neuron is None}
        running = {ticket.job.id for ticket in tickets if ticket.neuron is not None}
        assert len(tickets) == len(waiting | running)
        assert running == set(self.world.granted)
        ended = self.world.done | set(self.world.refused)
        assert not ended & (waiting | running)
        assert len(ended) + len(waiting) + len(running) == self.asked

    @invariant()
    def bounds_are_kept(self) -> None:
        for queue in self.world.scheduler.state.queues.values():
            per_copy: dict[str, int] = {}
            for ticket in queue.running.values():
                assert ticket.neuron is not None
                per_copy[ticket.neuron] = per_copy.get(ticket.neuron, 0) + 1
            assert all(count <= queue.bounds.in_flight for count in per_copy.values())

    @invariant()
    def neurons_keep_their_ledgers(self) -> None:
        for neuron in self.world.neurons.values():
            neuron.status()

    def open_jobs(self) -> list[str]:
        return sorted(ticket.job.id for ticket in self.world.scheduler.state.tickets())

    def teardown(self) -> None:
        """Everything ends: with neurons up and nobody asking, time alone empties the gateway."""
        if not hasattr(self, "world"):
            return
        world = self.world
        for name, neuron in world.neurons.items():
            if not neuron.alive:
                neuron.restart()
            world._apply(world.scheduler.on_drain(name, False, world.now))
        for _ in range(200):
            world.poll()
            while world.open_orders:
                world.finish(world.open_orders[0].model)
            while world.granted:
                world.end(next(iter(world.granted)))
            if not world.scheduler.state.tickets():
                break
            world.tick(1.0)
        assert not world.scheduler.state.tickets()
        assert not world.scheduler.state.queues
        assert len(world.done | set(world.refused)) == self.asked


TestFleet = Fleet.TestCase
TestFleet.settings = settings(
    max_examples=60, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
