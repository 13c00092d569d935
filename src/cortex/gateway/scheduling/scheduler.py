"""The gateway's decisions: events in, effects out. No I/O, no clock of its own, no logging; one caller, the loop.

A job is in exactly one place: waiting in its model's queue, running on a neuron, or gone. Every event may free a
place or make a load possible, so each ends in `Dispatcher.settle`, which goes through every queue that has waiters.
"""

from __future__ import annotations

from msgspec import structs

from cortex.config.settings import NeuronEntry
from cortex.errors import Conflict, CortexError
from cortex.gateway.neurons.fleet import Fleet, Neuron
from cortex.gateway.scheduling import idle_models, rejections
from cortex.gateway.scheduling.assessments import assess_all
from cortex.gateway.scheduling.breaker import Breaker
from cortex.gateway.scheduling.dispatcher import Dispatcher
from cortex.gateway.scheduling.effects import (
    AbandonOrders,
    AbortNeuron,
    Effect,
    Job,
    OperatorState,
    OrderLoad,
    Outcome,
    OutcomeKind,
    PollNeuron,
    PushProfiles,
    Reject,
    SaveOperatorState,
    SendProgress,
)
from cortex.gateway.scheduling.model_queue import ModelQueue, Ticket
from cortex.gateway.scheduling.policy import Policy
from cortex.gateway.scheduling.state import State
from cortex.placement.plan import choose
from cortex.wire.status import NeuronStatus

__all__ = ["Scheduler"]

_CLOSED = Breaker()


class Scheduler:
    """`now` is given with every event, in seconds of a monotonic clock."""

    def __init__(self, policy: Policy, entries: list[NeuronEntry]) -> None:
        self.state = State(policy=policy, fleet=Fleet.of(entries))
        self.dispatcher = Dispatcher(self.state)

    # ---- requests

    def on_request(self, job: Job, now: float) -> list[Effect]:
        queue = self.state.queue(job.model)
        queue.join(Ticket(job, now))
        effects = self.dispatcher.settle(now)
        if not queue.waiting:
            return effects
        copies = len(self.state.servable(job.model, now))
        return effects + [
            Reject(ticket.job.id, rejections.full(queue, ticket), "queue_full") for ticket in queue.overflow(copies)
        ]

    def on_cancel(self, job_id: str, now: float) -> list[Effect]:
        """The client has gone, whether its job waits or runs. A load that it waited for goes on."""
        return self.on_ended(job_id, Outcome(OutcomeKind.CANCELLED), now)

    def on_ended(self, job_id: str, outcome: Outcome, now: float) -> list[Effect]:
        """A job is over; a second report of the same end changes nothing."""
        ticket = self._remove(job_id, now)
        if ticket is None:
            return []
        if ticket.neuron is not None:
            self._note_outcome(ticket, outcome, now)
        return self.dispatcher.settle(now)

    def on_broken(self, job_id: str, outcome: Outcome, now: float) -> list[Effect]:
        """A neuron broke off a job that can go on elsewhere: back to the front of its queue, or rejected when it has
        been tried `policy.tries` times."""
        queue, ticket = self._find(job_id)
        if queue is None or ticket is None or ticket.neuron is None:
            return []
        broken_on = ticket.neuron
        self._note_outcome(ticket, outcome, now)
        ticket.tries += 1
        ticket.avoid.add(broken_on)
        ticket.file = self.state.file(broken_on, ticket.job.model)
        effects: list[Effect] = [PollNeuron(broken_on)]
        if ticket.tries >= self.state.policy.tries:
            self._remove(job_id, now)
            effects.append(Reject(job_id, rejections.tried_too_often(ticket, outcome.why), "neuron_failed"))
        else:
            queue.rejoin(ticket, now)
        return effects + self.dispatcher.settle(now)

    # ---- neurons

    def on_status(self, name: str, status: NeuronStatus, now: float) -> list[Effect]:
        """A neuron has sent its status."""
        neuron = self.state.fleet.get(name)
        if neuron is None:
            return []
        known = neuron.status
        if known is not None and known.boot == status.boot and status.revision < known.revision:
            return []  # an older one that has arrived late
        if twin := self.state.fleet.twin(name, status.boot):
            return self.on_unreachable(name, f"it is {twin} under another address", now)
        # What was under way on a lost one has been broken off; on one with a new address it goes on at the old.
        restarted = known is not None and known.boot != status.boot and neuron.lost_at is None
        if restarted:
            self.state.orders.abandon(name)
        self._replace(neuron.seen(status, now), now)
        effects: list[Effect] = [AbortNeuron(name)] if restarted else []
        pushes = self._push(name, status)
        if pushes and status.profiles is None:  # it describes its models without models.toml, wrongly perhaps
            self._replace(structs.replace(self.state.fleet.neurons[name], suspect=True), now)
        return [*effects, *pushes, *self.dispatcher.settle(now)]

    def on_unreachable(self, name: str, why: str, now: float) -> list[Effect]:
        """A neuron's connection broke or couldn't be opened: what is under way there is broken off, since nothing of it
        can end by itself."""
        neuron = self.state.fleet.get(name)
        if neuron is None:
            return []
        self._replace(neuron.lost(why, now), now)
        effects: list[Effect] = []
        if neuron.health != "down":
            self.state.orders.abandon(name)
            effects.append(AbortNeuron(name))
        return effects + self.dispatcher.settle(now)

    def on_ordered(self, neuron: str, model: str, error: CortexError | None, now: float) -> list[Effect]:
        """An order was answered, and the neuron's status that shows its outcome came before. Conflict means that the
        neuron's state had changed since the decision: no failure, the next settle decides anew."""
        order = self.state.orders.close(neuron, model)
        if order is None:
            return []
        if error is None:
            self.state.orders.forget_failure(neuron, model)
            if isinstance(order.command, OrderLoad):
                self.state.usage.loaded_in(neuron, model, now - order.given_at)
        elif isinstance(order.command, OrderLoad) and not isinstance(error, Conflict):
            self.state.orders.failed(neuron, model, error, now)
        return self.dispatcher.settle(now)

    def on_pushed(self, name: str, now: float) -> list[Effect]:  # noqa: ARG002 - events have a time
        """The profiles didn't arrive: they are sent again after the neuron's next status."""
        self.state.pushed.pop(name, None)
        return []

    # ---- operators

    def on_neurons(self, entries: list[NeuronEntry], now: float) -> list[Effect]:
        """The configured neurons changed. One that was removed or has another address gets nothing new there; what runs
        there runs on, but nobody waits for its orders."""
        state, old = self.state, self.state.fleet
        state.fleet = Fleet.of(entries, old, now)
        state.usage.forget_absent(state.fleet)
        left = state.fleet.left(old)
        for name in left:
            state.orders.forget(name)
            state.pushed.pop(name, None)
        state.unwanted = {key: force for key, force in state.unwanted.items() if key[0] not in left}
        return [*(AbandonOrders(name) for name in left), *self.dispatcher.settle(now)]

    def on_policy(self, policy: Policy, now: float) -> list[Effect]:
        self.state.policy = policy
        for queue in self.state.queues.values():
            queue.bounds = policy.bounds_of(queue.model)
        pushes = [
            push for neuron in self.state.fleet if neuron.status for push in self._push(neuron.name, neuron.status)
        ]
        return [*pushes, *self.dispatcher.settle(now)]

    def on_drain(self, name: str, drained: bool, now: float) -> list[Effect]:
        """A drained neuron keeps what runs on it and gets nothing new."""
        if (neuron := self.state.fleet.get(name)) is not None:
            self._replace(structs.replace(neuron, drained=drained), now)
        return [SaveOperatorState(self.state.operator_state()), *self.dispatcher.settle(now)]

    def on_pin(self, model: str, pinned: bool, now: float) -> list[Effect]:
        self.state.pins[model] = pinned
        return [SaveOperatorState(self.state.operator_state()), *self.dispatcher.settle(now)]

    def on_operator_state(self, operator_state: OperatorState, now: float) -> list[Effect]:
        """Restore the pins and drains that operators had ordered before a restart."""
        self.state.pins.update(operator_state.pins)
        for name in operator_state.drained:
            if (neuron := self.state.fleet.get(name)) is not None:
                self._replace(structs.replace(neuron, drained=True), now)
        return self.dispatcher.settle(now)

    def on_unload(self, model: str, force: bool, now: float) -> list[Effect]:
        """An operator's order to unload every copy that there is now, pinned ones included. Neurons drain them first
        unless `force`."""
        self.state.unwanted |= {(neuron.name, model): force for neuron in self.state.copies(model)}
        return self._unload_unwanted(now)

    def _unload_unwanted(self, now: float) -> list[Effect]:
        """A neuron that has yet to answer an order gets the next one when it has."""
        effects: list[Effect] = []
        for (name, model), force in list(self.state.unwanted.items()):
            neuron = next((neuron for neuron in self.state.copies(model) if neuron.name == name), None)
            ordered = self.dispatcher.unload(neuron, model, "operator", now, force) if neuron else []
            if ordered or neuron is None:
                del self.state.unwanted[name, model]
            effects += ordered
        return effects

    # ---- time

    def on_tick(self, now: float) -> list[Effect]:
        """Deadlines, idle models, wanted replicas, progress. Called about twice a second."""
        state = self.state
        state.orders.follow(state.fleet, now)
        effects = self._give_up_stalled(now)
        effects += self._unload_unwanted(now)
        for neuron, model in idle_models.idle(state, now):
            effects += self.dispatcher.unload(neuron, model, "idle", now)
        effects += self.dispatcher.settle(now)
        for queue in state.queues.values():
            for ticket, failure, reason in rejections.overdue(state, queue, now):
                queue.waiting.remove(ticket)
                effects.append(Reject(ticket.job.id, failure, reason))
        for model, may_evict in idle_models.wanted_copies(state, now):
            if chosen := choose(assess_all(state, model, now, may_evict=may_evict)):
                effects += self.dispatcher.load(chosen, model, now)
        return effects + self._progress()

    def _give_up_stalled(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for order in self.state.orders.stalled(now, self.state.policy.load_stall_s):
            name, model = order.command.neuron, order.command.model
            self.state.orders.close(name, model)
            self.state.orders.failed(name, model, rejections.stalled(name, model), now)
            effects.append(PollNeuron(name))
        return effects

    def _progress(self) -> list[Effect]:
        """For every waiter whose progress has changed since it was last sent."""
        effects: list[Effect] = []
        for queue in self.state.queues.values():
            for place, ticket in enumerate(queue.waiting):
                progress = rejections.progress(self.state, queue, place)
                if ticket.job.request is not None and progress != ticket.sent:
                    ticket.sent = progress
                    effects.append(SendProgress(ticket.job.id, progress))
        return effects

    # ---- helpers

    def _push(self, name: str, status: NeuronStatus) -> list[Effect]:
        """The profiles that the neuron is due, once per version and boot: what it refused, it would refuse again."""
        push, state = self.state.policy.push, self.state
        order = push.due(name, status) if push else None
        if push is None or order is None or state.pushed.get(name) == (status.boot, push.hash):
            return []
        state.pushed[name] = (status.boot, push.hash)
        return [PushProfiles(name, order)]

    def _replace(self, neuron: Neuron, now: float) -> None:
        """Put the neuron into the snapshot and bring up to date what is derived from its status."""
        state = self.state
        state.fleet = state.fleet.with_(neuron)
        state.usage.observe(neuron, now)
        for status in neuron.status.models if neuron.status else ():
            model = status.card.id
            own = state.own(neuron.name, model)
            state.foreign[neuron.name, model] = max(0, status.running + status.waiting - own)
            if status.state == "ready":
                state.prefixes.publish(state.usage.copy(neuron, model), status)
        state.prefixes.keep_only(state.usage.copies(state.fleet))

    def _note_outcome(self, ticket: Ticket, outcome: Outcome, now: float) -> None:
        """Count the end of a job as a use of its model, and for or against this copy."""
        state, model = self.state, ticket.job.model
        neuron = state.fleet.get(ticket.neuron or "")
        if neuron is None:
            return
        state.usage.touch(neuron.name, model, now)
        judged = _judged(neuron, model, outcome.kind, now)
        if judged is not neuron:
            state.fleet = state.fleet.with_(judged)

    def _find(self, job_id: str) -> tuple[ModelQueue | None, Ticket | None]:
        for queue in self.state.queues.values():
            for ticket in (queue.running.get(job_id), *queue.waiting):
                if ticket is not None and ticket.job.id == job_id:
                    return queue, ticket
        return None, None

    def _remove(self, job_id: str, now: float) -> Ticket | None:
        queue, _ = self._find(job_id)
        return queue.leave(job_id, now) if queue else None


def _judged(neuron: Neuron, model: str, kind: OutcomeKind, now: float) -> Neuron:
    breaker = neuron.breaker(model)
    match kind:
        case OutcomeKind.DONE | OutcomeKind.FAILED | OutcomeKind.CANCELLED if breaker == _CLOSED:
            return neuron
        case OutcomeKind.DONE | OutcomeKind.FAILED:
            return neuron.with_breaker(model, _CLOSED)
        case OutcomeKind.CANCELLED:
            return neuron.with_breaker(model, breaker.undecided())
        case OutcomeKind.BROKEN_EARLY:
            return structs.replace(neuron.with_breaker(model, breaker.failed(now)), suspect=True)
        case OutcomeKind.BROKEN_LATE:
            return structs.replace(neuron.with_breaker(model, breaker.undecided()), suspect=True)
