"""The gateway's decisions: events in, effects out. No I/O, no clock of its own, no logging; one caller, the loop.

A job is in exactly one place: waiting in its model's line, running on a neuron, or gone. Every event may free a
place or make a load possible, so each ends in `Dispatcher.settle`, which looks at every line that has waiters.
"""

from __future__ import annotations

from msgspec import structs

from cortex.config.settings import NeuronEntry
from cortex.errors import Conflict, CortexError
from cortex.gateway.neurons.fleet import Fleet, Neuron
from cortex.gateway.scheduling import idle_models, rejections
from cortex.gateway.scheduling.breaker import Breaker
from cortex.gateway.scheduling.dispatcher import Dispatcher
from cortex.gateway.scheduling.effects import (
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
from cortex.gateway.scheduling.placement import choose
from cortex.gateway.scheduling.policy import Policy
from cortex.gateway.scheduling.state import State
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
        """The client has gone, whether its job waits or runs. What it was waiting for to load is still loaded."""
        return self.on_ended(job_id, Outcome(OutcomeKind.CANCELLED), now)

    def on_ended(self, job_id: str, outcome: Outcome, now: float) -> list[Effect]:
        """A job left for good; a second report of the same end changes nothing."""
        ticket = self._remove(job_id, now)
        if ticket is None:
            return []
        if ticket.neuron is not None:
            self._note_outcome(ticket, outcome, now)
        return self.dispatcher.settle(now)

    def on_broken(self, job_id: str, outcome: Outcome, now: float) -> list[Effect]:
        """A neuron broke off a job that can go on elsewhere: back to the front of the line, or refused when it has been
        tried often enough."""
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
            effects.append(Reject(job_id, rejections.worn_out(ticket, outcome.why), "neuron_failed"))
        else:
            queue.rejoin(ticket, now)
        return effects + self.dispatcher.settle(now)

    # ---- neurons

    def on_status(self, name: str, status: NeuronStatus, now: float) -> list[Effect]:
        """A neuron sent its status."""
        neuron = self.state.fleet.get(name)
        if neuron is None:
            return []
        known = neuron.status
        if known is not None and known.boot == status.boot and status.revision < known.revision:
            return []  # an answer that a later one has overtaken
        if twin := self.state.fleet.twin(name, status.boot):
            return self.on_unreachable(name, f"it is {twin} under another address", now)
        reborn = known is not None and known.boot != status.boot
        if reborn:
            self.state.orders.abandon(name)
        self._replace(neuron.seen(status, now), now)
        effects: list[Effect] = [AbortNeuron(name)] if reborn else []
        pushes = self._push(name, status)
        if pushes and status.profiles is None:  # what it says of its models isn't yet what models.toml says of them
            self._replace(structs.replace(self.state.fleet.neurons[name], suspect=True), now)
        return [*effects, *pushes, *self.dispatcher.settle(now)]

    def on_unreachable(self, name: str, why: str, now: float) -> list[Effect]:
        """A neuron's connection broke or couldn't be opened: nothing that is under way there can end by itself."""
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
        """An order was answered, and the neuron's status that shows its outcome came before. A conflict means that the
        neuron had moved on: nothing is wrong, decide anew."""
        order = self.state.orders.close(neuron, model)
        if order is None:
            return []
        if error is None:
            self.state.orders.forgive(neuron, model)
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
        """The configured neurons changed. A removed one gets nothing new; what runs there runs on."""
        self.state.fleet = Fleet.of(entries, self.state.fleet)
        self.state.usage.forget_absent(self.state.fleet)
        return self.dispatcher.settle(now)

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

    def on_standing(self, operator_state: OperatorState, now: float) -> list[Effect]:
        """What operators ordered before a restart holds again."""
        self.state.pins.update(operator_state.pins)
        for name in operator_state.drained:
            if (neuron := self.state.fleet.get(name)) is not None:
                self._replace(structs.replace(neuron, drained=True), now)
        return self.dispatcher.settle(now)

    def on_unload(self, model: str, force: bool, now: float) -> list[Effect]:
        """Unload every copy that there is now, at an operator's word; a pinned one as well. Neurons drain it first
        unless forced."""
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
            assessments = [v for v in self.dispatcher.assess(model, now) if may_evict or v.kind == "fits"]
            if chosen := choose(assessments):
                effects += self.dispatcher.load(chosen, model, now)
        return effects + self._tell()

    def _give_up_stalled(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for order in self.state.orders.stalled(now, self.state.policy.load_stall_s):
            name, model = order.command.neuron, order.command.model
            self.state.orders.close(name, model)
            self.state.orders.failed(name, model, rejections.stalled(name, model), now)
            effects.append(PollNeuron(name))
        return effects

    def _tell(self) -> list[Effect]:
        effects: list[Effect] = []
        for queue in self.state.queues.values():
            for place, ticket in enumerate(queue.waiting):
                progress = rejections.progress(self.state, queue, place)
                if ticket.job.request is not None and progress != ticket.told:
                    ticket.told = progress
                    effects.append(SendProgress(ticket.job.id, progress))
        return effects

    # ---- helpers

    def _push(self, name: str, status: NeuronStatus) -> list[Effect]:
        """Each version once for each of the neuron's lives; what it refuses, it would refuse again."""
        push, state = self.state.policy.push, self.state
        order = push.due(name, status) if push else None
        if push is None or order is None or state.pushed.get(name) == (status.boot, push.hash):
            return []
        state.pushed[name] = (status.boot, push.hash)
        return [PushProfiles(name, order)]

    def _replace(self, neuron: Neuron, now: float) -> None:
        """The one place where a neuron's entry in the snapshot changes after a status."""
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
        """What a job's end says of the neuron."""
        state, model = self.state, ticket.job.model
        neuron = state.fleet.get(ticket.neuron or "")
        if neuron is None:
            return
        state.usage.touch(neuron.name, model, now)
        judged = _judged(neuron, outcome.verdict, now)
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


def _judged(neuron: Neuron, verdict: OutcomeKind, now: float) -> Neuron:
    match verdict:
        case OutcomeKind.DONE | OutcomeKind.FAILED | OutcomeKind.CANCELLED if neuron.breaker == _CLOSED:
            return neuron
        case OutcomeKind.DONE | OutcomeKind.FAILED:
            return structs.replace(neuron, breaker=_CLOSED)
        case OutcomeKind.CANCELLED:
            return structs.replace(neuron, breaker=neuron.breaker.unprobed())
        case OutcomeKind.BROKEN_EARLY:
            return structs.replace(neuron, breaker=neuron.breaker.failed(now), suspect=True)
        case OutcomeKind.BROKEN_LATE:
            return structs.replace(neuron, suspect=True)
