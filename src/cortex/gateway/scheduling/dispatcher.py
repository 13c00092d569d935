"""Grants waiting jobs their places on loaded copies, and orders loads for models that have none. Pure.

The part of the scheduler that runs after every event. Reads the whole State, and changes its queues, orders, `closed`
copies, affinity and sent prefixes.
"""

from __future__ import annotations

from cortex.gateway.neurons.fleet import Neuron
from cortex.gateway.scheduling import rejections
from cortex.gateway.scheduling.assessments import assess_all
from cortex.gateway.scheduling.effects import Effect, Grant, ModelReady, OrderLoad, OrderUnload, Reject
from cortex.gateway.scheduling.model_queue import ModelQueue, Ticket
from cortex.gateway.scheduling.router import affinity_key, choose_copy
from cortex.gateway.scheduling.state import State
from cortex.placement.decision import Wait
from cortex.placement.plan import Assessment, Present, choose
from cortex.wire.inference import InferenceRequest, Request
from cortex.wire.prefix import prefix_hashes
from cortex.wire.status import ModelStatus

__all__ = ["Dispatcher"]


class Dispatcher:
    """`settle` runs after every event; `load` and `unload` are also for events that order something themselves."""

    def __init__(self, state: State) -> None:
        self.state = state

    def settle(self, now: float) -> list[Effect]:
        """Order loads and grant places until nothing more can be done now. The queue with the most waiting (in seconds,
        of all its jobs together) comes first, so that a swap serves many. Loads come before grants, so that a model
        which has to give way is closed before it is granted another job."""
        state = self.state
        state.closed.clear()
        effects: list[Effect] = []
        for queue in sorted(state.queues.values(), key=lambda queue: -queue.total_wait_s(now)):
            effects += self._provide(queue, now)
        for queue in list(state.queues.values()):
            effects += self._serve(queue, now)
            if not (queue.waiting or queue.running):
                del state.queues[queue.model]
        return effects

    def _provide(self, queue: ModelQueue, now: float) -> list[Effect]:
        """1. A copy serves it already: nothing to do. 2. It is being loaded, or is there but closed or leaving: wait.
        3. It can be loaded: order that. 4. Models that have had their turn hold its memory: close them. 5. It can't be
        loaded, now or ever: reject its jobs."""
        state = self.state
        if not queue.waiting or state.served(queue.model, now):  # 1
            return []
        assessments = assess_all(state, queue.model, now)
        if state.orders.loading(queue.model) or any(isinstance(each.decision, Present) for each in assessments):  # 2
            return []
        if chosen := choose(assessments):  # 3
            return self.load(chosen, queue.model, now)
        if closing := next((names for each in assessments if (names := _to_close(each))), None):  # 4
            state.closed |= closing
            return []
        rejection = rejections.hopeless(state, queue.model, assessments, now)  # 5
        if rejection is None:
            return []
        waiters, queue.waiting = queue.waiting, []
        return [Reject(ticket.job.id, *rejection) for ticket in waiters]

    def _serve(self, queue: ModelQueue, now: float) -> list[Effect]:
        """Grant places while there are waiters and copies with a place free."""
        effects: list[Effect] = []
        if not queue.waiting:
            return effects
        servable = self.state.servable(queue.model, now)
        while (ticket := queue.next()) is not None:
            if ticket.job.request is None and servable:
                queue.waiting.remove(ticket)
                effects.append(ModelReady(ticket.job.id, servable[0][0].name))
                continue
            open_copies = [
                pair for pair in servable if self.state.own(pair[0].name, queue.model) < queue.bounds.in_flight
            ]
            if not open_copies:
                break
            effects.append(self._grant(queue, ticket, open_copies, now))
            servable = [
                pair for pair in servable if self.state.fleet.neurons[pair[0].name].takes_requests(queue.model, now)
            ]
        return effects

    def _grant(self, queue: ModelQueue, ticket: Ticket, copies: list[tuple[Neuron, ModelStatus]], now: float) -> Grant:
        """Choose the copy, and count the job there."""
        state, model = self.state, queue.model
        copies = [pair for pair in copies if ticket.file in (None, pair[1].card.gguf_hash)] or copies
        fresh = [pair for pair in copies if pair[0].name not in ticket.avoid] or copies
        neuron = fresh[0][0] if len(fresh) == 1 else self._route(queue, ticket, fresh, now)
        name = neuron.name
        queue.start(ticket, name, now)
        if len(state.fleet.neurons) > 1:
            state.affinity.set(model, affinity_key(ticket.job.request), name)
        state.usage.touch(name, model, now)
        if (breaker := neuron.breaker(model)).state(now) != "closed":
            state.fleet = state.fleet.with_(neuron.with_breaker(model, breaker.sent(now)))
        return Grant(ticket.job.id, name)

    def _route(self, queue: ModelQueue, ticket: Ticket, copies: list[tuple[Neuron, ModelStatus]], now: float) -> Neuron:
        """Choose among several copies, and remember what the chosen one will hold."""
        state, model = self.state, queue.model
        if ticket.hashes is None:
            ticket.hashes = _hashes(ticket.job.request)
        home = state.affinity.get(model, affinity_key(ticket.job.request))
        weighed = [state.copy(neuron, status, ticket.hashes, now) for neuron, status in copies]
        neuron = state.fleet.neurons[choose_copy(weighed, home, queue.service_s).neuron]
        state.prefixes.sent(state.usage.copy(neuron, model), ticket.hashes, now)
        return neuron

    def load(self, chosen: Assessment, model: str, now: float) -> list[Effect]:
        neuron = self.state.fleet.neurons[chosen.neuron]
        revision = neuron.status.revision if neuron.status else None
        by_operator = any(ticket.job.request is None for ticket in self.state.queue(model).waiting)
        command = OrderLoad(chosen.neuron, model, chosen.devices, chosen.evict, revision, by_operator)
        self.state.orders.give(command, neuron, now)
        return [command]

    def unload(self, neuron: Neuron, model: str, reason: str, now: float, force: bool = False) -> list[Effect]:
        """The order to unload a copy; none while its neuron has an unanswered order, the caller tries again later."""
        if self.state.orders.unanswered(neuron) or self.state.orders.get(neuron.name, model):
            return []
        revision = neuron.status.revision if neuron.status else None
        command = OrderUnload(neuron.name, model, reason, force, revision)
        self.state.orders.give(command, neuron, now)
        return [command]


def _to_close(assessment: Assessment) -> set[tuple[str, str]]:
    """(neuron, model) of the copies that get no new requests from now on."""
    close = assessment.decision.close if isinstance(assessment.decision, Wait) else ()
    return {(assessment.neuron, model) for model in close}


def _hashes(request: Request | None) -> list[int]:
    return prefix_hashes(request) if isinstance(request, InferenceRequest) else []
