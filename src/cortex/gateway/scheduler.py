"""The gateway's decisions: events in, effects out. No I/O, no clock of its own, no logging; one caller, the loop.

A job is in exactly one place: waiting in its model's line, running on a neuron, or gone. Every event may free a
place or make a load possible, so each ends in `_settle`, which looks at every line that has waiters.
"""

from __future__ import annotations

from msgspec import structs

from cortex.config import NeuronEntry
from cortex.errors import Conflict, CortexError
from cortex.gateway import housekeeping, refusals
from cortex.gateway.admission import Line, Ticket
from cortex.gateway.breaker import Breaker
from cortex.gateway.fleet import Fleet, Neuron, Unreachable
from cortex.gateway.messages import (
    Break,
    Effect,
    Grant,
    Job,
    Load,
    Outcome,
    Refresh,
    Refuse,
    Resident,
    Tell,
    Unload,
    Verdict,
)
from cortex.gateway.placement import Verdict as SiteVerdict
from cortex.gateway.placement import assess, choose
from cortex.gateway.policy import Policy
from cortex.gateway.router import affinity_key, choose_copy
from cortex.gateway.state import State
from cortex.wire.inference import InferenceRequest, Request
from cortex.wire.prefix import prefix_hashes
from cortex.wire.status import ModelStatus, NeuronStatus

__all__ = ["Scheduler"]

_CLOSED = Breaker()


class Scheduler:
    """`now` is given with every event, in seconds of a monotonic clock."""

    def __init__(self, policy: Policy, entries: list[NeuronEntry]) -> None:
        self.state = State(policy=policy, fleet=Fleet.of(entries))

    # ---- requests

    def on_request(self, job: Job, now: float) -> list[Effect]:
        line = self.state.line(job.model)
        line.join(Ticket(job, now))
        effects = self._settle(now)
        if not line.waiting:
            return effects
        copies = len(self.state.servable(job.model, now))
        return effects + [
            Refuse(ticket.job.id, refusals.full(line, ticket), "queue_full") for ticket in line.overflow(copies)
        ]

    def on_cancel(self, job_id: str, now: float) -> list[Effect]:
        """The client has gone, whether its job waits or runs. What it was waiting for to load is still loaded."""
        return self.on_ended(job_id, Outcome(Verdict.CANCELLED), now)

    def on_ended(self, job_id: str, outcome: Outcome, now: float) -> list[Effect]:
        """A job left for good; a second report of the same end changes nothing."""
        ticket = self._remove(job_id, now)
        if ticket is None:
            return []
        if ticket.neuron is not None:
            self._note_outcome(ticket, outcome, now)
        return self._settle(now)

    def on_broken(self, job_id: str, outcome: Outcome, now: float) -> list[Effect]:
        """A neuron broke off a job that can go on elsewhere: back to the front of the line, or refused when it has been
        tried often enough."""
        line, ticket = self._find(job_id)
        if line is None or ticket is None or ticket.neuron is None:
            return []
        broken_on = ticket.neuron
        self._note_outcome(ticket, outcome, now)
        ticket.tries += 1
        ticket.avoid.add(broken_on)
        effects: list[Effect] = [Refresh(broken_on)]
        if ticket.tries >= self.state.policy.tries:
            self._remove(job_id, now)
            effects.append(Refuse(job_id, refusals.worn_out(ticket, outcome.why), "neuron_failed"))
        else:
            line.rejoin(ticket, now)
        return effects + self._settle(now)

    # ---- neurons

    def on_status(self, name: str, status: NeuronStatus, now: float) -> list[Effect]:
        """A neuron answered a poll."""
        neuron = self.state.fleet.get(name)
        if neuron is None:
            return []
        known = neuron.status
        if known is not None and known.boot == status.boot and status.revision < known.revision:
            return []  # an answer that a later one has overtaken
        reborn = known is not None and known.boot != status.boot
        if reborn:
            self.state.orders.abandon(name)
        self._replace(neuron.seen(status, now), now)
        effects: list[Effect] = [Break(name)] if reborn else []
        return effects + self._settle(now)

    def on_unreachable(self, name: str, error: Unreachable, now: float) -> list[Effect]:
        """A neuron didn't answer a poll. Once it is down, nothing that is under way there can end by itself."""
        neuron = self.state.fleet.get(name)
        if neuron is None:
            return []
        missed = neuron.missed(error, now)
        self._replace(missed, now)
        effects: list[Effect] = []
        if missed.health == "down" and neuron.health != "down":
            self.state.orders.abandon(name)
            effects.append(Break(name))
        return effects + self._settle(now)

    def on_ordered(self, neuron: str, model: str, error: CortexError | None, now: float) -> list[Effect]:
        """An order was answered, and the neuron's fresh status is already in. A conflict means that the neuron had
        moved on: nothing is wrong, decide anew."""
        order = self.state.orders.close(neuron, model)
        if order is None:
            return []
        if error is None:
            self.state.orders.forgive(neuron, model)
            if isinstance(order.command, Load):
                self.state.residency.loaded_in(neuron, model, now - order.given_at)
        elif isinstance(order.command, Load) and not isinstance(error, Conflict):
            self.state.orders.failed(neuron, model, error, now)
        return self._settle(now)

    # ---- operators

    def on_neurons(self, entries: list[NeuronEntry], now: float) -> list[Effect]:
        """The configured neurons changed. A removed one gets nothing new; what runs there runs on."""
        self.state.fleet = Fleet.of(entries, self.state.fleet)
        self.state.residency.forget_absent(self.state.fleet)
        return self._settle(now)

    def on_policy(self, policy: Policy, now: float) -> list[Effect]:
        self.state.policy = policy
        for line in self.state.lines.values():
            line.bounds = policy.bounds_of(line.model)
        return self._settle(now)

    def on_drain(self, name: str, drained: bool, now: float) -> list[Effect]:
        """A drained neuron keeps what runs on it and gets nothing new."""
        if (neuron := self.state.fleet.get(name)) is not None:
            self._replace(structs.replace(neuron, drained=drained), now)
        return self._settle(now)

    def on_pin(self, model: str, pinned: bool, now: float) -> list[Effect]:
        self.state.pins[model] = pinned
        return self._settle(now)

    def on_unload(self, model: str, force: bool, now: float) -> list[Effect]:
        """Unload every copy at an operator's word; a pinned one as well. Neurons drain it first unless forced."""
        return [
            effect
            for neuron, status in self.state.fleet.holding(model)
            if status.state in ("ready", "loading") and neuron.takes_orders()
            for effect in self._unload(neuron, model, "operator", now, force)
        ]

    # ---- time

    def on_tick(self, now: float) -> list[Effect]:
        """Deadlines, idle models, wanted replicas, progress. Called about twice a second."""
        state = self.state
        state.orders.follow(state.fleet, now)
        effects = self._give_up_stalled(now)
        for neuron, model in housekeeping.idle(state, now):
            effects += self._unload(neuron, model, "idle", now)
        effects += self._settle(now)
        for line in state.lines.values():
            for ticket, failure, reason in refusals.overdue(state, line, now):
                line.waiting.remove(ticket)
                effects.append(Refuse(ticket.job.id, failure, reason))
        for model, may_evict in housekeeping.wanted_copies(state, now):
            verdicts = [v for v in self.assess(model, now) if may_evict or v.kind == "fits"]
            if chosen := choose(verdicts):
                effects += self._load(chosen, model, now)
        return effects + self._tell()

    def _give_up_stalled(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for order in self.state.orders.stalled(now, self.state.policy.load_stall_s):
            name, model = order.command.neuron, order.command.model
            self.state.orders.close(name, model)
            self.state.orders.failed(name, model, refusals.stalled(name, model), now)
            effects.append(Refresh(name))
        return effects

    def _tell(self) -> list[Effect]:
        effects: list[Effect] = []
        for line in self.state.lines.values():
            for place, ticket in enumerate(line.waiting):
                progress = refusals.progress(self.state, line, place)
                if ticket.job.request is not None and progress != ticket.told:
                    ticket.told = progress
                    effects.append(Tell(ticket.job.id, progress))
        return effects

    # ---- settling

    def _settle(self, now: float) -> list[Effect]:
        """Give out places and order loads until nothing more can be done now; the longest waiting line first, so that
        a model which keeps another from its place is closed before it is served again."""
        state = self.state
        state.closed.clear()
        effects: list[Effect] = []
        for line in sorted(state.lines.values(), key=lambda line: -line.oldest_wait_s(now)):
            effects += self._provide(line, now)
        for line in list(state.lines.values()):
            effects += self._serve(line, now)
            if not (line.waiting or line.running):
                del state.lines[line.model]
        return effects

    def _provide(self, line: Line, now: float) -> list[Effect]:
        """1. Somebody serves it already: nothing to do. 2. It is being loaded, or is there but closed or leaving: wait.
        3. It can be loaded: order it. 4. Its place is taken by models that have had their turn: close them. 5. It can't
        be loaded, now or ever: refuse."""
        state = self.state
        if not line.waiting or state.served(line.model, now):  # 1
            return []
        verdicts = self.assess(line.model, now)
        if state.orders.loading(line.model) or any(verdict.kind in ("loaded", "loading") for verdict in verdicts):  # 2
            return []
        if chosen := choose(verdicts):  # 3
            return self._load(chosen, line.model, now)
        if blocked := next((verdict for verdict in verdicts if verdict.close), None):  # 4
            state.closed |= {(blocked.neuron, model) for model in blocked.close}
            return []
        refusal = refusals.hopeless(state, line.model, verdicts, now)  # 5
        if refusal is None:
            return []
        waiters, line.waiting = line.waiting, []
        return [Refuse(ticket.job.id, *refusal) for ticket in waiters]

    def _serve(self, line: Line, now: float) -> list[Effect]:
        """Grant places while there are waiters and copies with room."""
        effects: list[Effect] = []
        if not line.waiting:
            return effects
        servable = self.state.servable(line.model, now)
        while (ticket := line.next()) is not None:
            if ticket.job.request is None and servable:
                line.waiting.remove(ticket)
                effects.append(Resident(ticket.job.id, servable[0][0].name))
                continue
            roomy = [pair for pair in servable if self.state.own(pair[0].name, line.model) < line.bounds.in_flight]
            if not roomy:
                break
            effects.append(self._grant(line, ticket, roomy, now))
            servable = [pair for pair in servable if self.state.fleet.neurons[pair[0].name].takes_requests(now)]
        return effects

    def _grant(self, line: Line, ticket: Ticket, copies: list[tuple[Neuron, ModelStatus]], now: float) -> Grant:
        """Choose the copy, and count the job there."""
        state, model = self.state, line.model
        fresh = [pair for pair in copies if pair[0].name not in ticket.avoid] or copies
        neuron = fresh[0][0] if len(fresh) == 1 else self._route(line, ticket, fresh, now)
        name = neuron.name
        line.start(ticket, name, now)
        if len(state.fleet.neurons) > 1:
            state.affinity.set(model, affinity_key(ticket.job.request), name)
        state.residency.touch(name, model, now)
        if neuron.breaker.state(now) != "closed":
            state.fleet = state.fleet.with_(structs.replace(neuron, breaker=neuron.breaker.sent(now)))
        return Grant(ticket.job.id, name)

    def _route(self, line: Line, ticket: Ticket, copies: list[tuple[Neuron, ModelStatus]], now: float) -> Neuron:
        """Choose among several copies, and remember what the chosen one will hold."""
        state, model = self.state, line.model
        if ticket.hashes is None:
            ticket.hashes = _hashes(ticket.job.request)
        home = state.affinity.get(model, affinity_key(ticket.job.request))
        weighed = [state.copy(neuron, status, ticket.hashes, now) for neuron, status in copies]
        neuron = state.fleet.neurons[choose_copy(weighed, home, line.service_s).neuron]
        state.prefixes.sent(state.residency.copy(neuron, model), ticket.hashes, now)
        return neuron

    # ---- helpers

    def assess(self, model: str, now: float) -> list[SiteVerdict]:
        """What each neuron could do for `model`, and why; the loop decides on it and operators can read it."""
        state = self.state
        claim = state.claim(model, now)
        return [assess(state.site(neuron, model, now), claim, state.policy.eviction, now) for neuron in state.fleet]

    def _load(self, chosen: SiteVerdict, model: str, now: float) -> list[Effect]:
        neuron = self.state.fleet.neurons[chosen.neuron]
        revision = neuron.status.revision if neuron.status else None
        command = Load(chosen.neuron, model, chosen.devices, chosen.evict, revision)
        self.state.orders.give(command, neuron, now)
        return [command]

    def _unload(self, neuron: Neuron, model: str, reason: str, now: float, force: bool = False) -> list[Effect]:
        """At a neuron with an unanswered order the unload waits for the next tick (or the operator's next try)."""
        if self.state.orders.unanswered(neuron) or self.state.orders.get(neuron.name, model):
            return []
        revision = neuron.status.revision if neuron.status else None
        command = Unload(neuron.name, model, reason, force, revision)
        self.state.orders.give(command, neuron, now)
        return [command]

    def _replace(self, neuron: Neuron, now: float) -> None:
        """The one place where a neuron's entry in the snapshot changes after a poll."""
        state = self.state
        state.fleet = state.fleet.with_(neuron)
        state.residency.observe(neuron, now)
        for status in neuron.status.models if neuron.status else ():
            model = status.card.id
            own = state.own(neuron.name, model)
            state.foreign[neuron.name, model] = max(0, status.running + status.waiting - own)
            if status.state == "ready":
                state.prefixes.publish(state.residency.copy(neuron, model), status)
        state.prefixes.keep_only(state.residency.copies(state.fleet))

    def _note_outcome(self, ticket: Ticket, outcome: Outcome, now: float) -> None:
        """What a job's end says of the neuron."""
        state, model = self.state, ticket.job.model
        neuron = state.fleet.get(ticket.neuron or "")
        if neuron is None:
            return
        state.residency.touch(neuron.name, model, now)
        judged = _judged(neuron, outcome.verdict, now)
        if judged is not neuron:
            state.fleet = state.fleet.with_(judged)

    def _find(self, job_id: str) -> tuple[Line | None, Ticket | None]:
        for line in self.state.lines.values():
            for ticket in (line.running.get(job_id), *line.waiting):
                if ticket is not None and ticket.job.id == job_id:
                    return line, ticket
        return None, None

    def _remove(self, job_id: str, now: float) -> Ticket | None:
        line, _ = self._find(job_id)
        return line.leave(job_id, now) if line else None


def _hashes(request: Request | None) -> list[int]:
    return prefix_hashes(request) if isinstance(request, InferenceRequest) else []


def _judged(neuron: Neuron, verdict: Verdict, now: float) -> Neuron:
    match verdict:
        case Verdict.DONE | Verdict.FAILED | Verdict.CANCELLED if neuron.breaker == _CLOSED:
            return neuron
        case Verdict.DONE | Verdict.FAILED:
            return structs.replace(neuron, breaker=_CLOSED)
        case Verdict.CANCELLED:
            return structs.replace(neuron, breaker=neuron.breaker.unprobed())
        case Verdict.BROKEN_EARLY:
            return structs.replace(neuron, breaker=neuron.breaker.failed(now), suspect=True)
        case Verdict.BROKEN_LATE:
            return structs.replace(neuron, suspect=True)
