"""The gateway's `serving` backend: a request's way through the queue, onto a neuron, and perhaps onto another.

The loop decides where a request runs and is told when that ended. In between, the neuron's events go straight from its
connection to the client, on the stack of the connection's reader: nothing per event passes the loop or wakes a task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cortex.errors import CortexError, Unavailable
from cortex.gateway.neurons.connections import NeuronConnections
from cortex.gateway.neurons.fleet import Lost
from cortex.gateway.requests.failover import FailoverState
from cortex.gateway.requests.mailboxes import Mailbox, Mailboxes, Running
from cortex.gateway.scheduling.catalogue import Catalogue
from cortex.gateway.scheduling.effects import Grant, Job, Outcome, OutcomeKind, Reject, SendProgress
from cortex.gateway.scheduling.loop import Loop
from cortex.serving.exchange.backend import Emit
from cortex.wire.events import Event, Failed, Finished, failed
from cortex.wire.inference import InferenceRequest, Request
from cortex.wire.status import ModelStatus

__all__ = ["FleetBackend"]

_ELSEWHERE = frozenset({"worker_died", "unavailable", "draining", "server_is_overloaded", "model_loading"})
"""Failures of this neuron at this moment; any other one (a bad request, say) every neuron would repeat."""


class FleetBackend:
    """Serves from the fleet."""

    def __init__(
        self,
        loop: Loop,
        connections: NeuronConnections,
        mailboxes: Mailboxes,
        catalogue: Catalogue,
        on_failover: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._connections = connections
        self._mailboxes = mailboxes
        self._catalogue = catalogue
        self._on_failover = on_failover

    def models(self) -> list[tuple[ModelStatus, list[str]]]:
        return self._catalogue.models()

    def resolve(self, name: str) -> str:
        return self._catalogue.resolve(name)

    def ready(self) -> bool:
        """False while no neuron takes orders: a load balancer in front should choose another gateway."""
        return any(neuron.takes_orders() for neuron in self._loop.scheduler.state.fleet)

    async def serve(self, request: Request, emit: Emit) -> None:
        """1. Wait for a place. 2. Granted: the neuron's events are emitted until its stream ends. 3. It broke: wait for
        another place if the client need not notice, else that is the end."""
        attempt = FailoverState(request)
        with self._queued(request) as (job, mailbox):
            while not attempt.over:
                message = await mailbox.get()  # 1
                if isinstance(message, SendProgress) and attempt.wants_progress and not attempt.has_output:
                    emit([message.progress])
                elif isinstance(message, Reject):
                    attempt.end = message.failed
                    emit([message.failed])
                elif isinstance(message, Grant) and (failure := await self._run(attempt, job, message.neuron, emit)):
                    emit([failure])

    async def _run(self, attempt: FailoverState, job: Job, neuron: str, emit: Emit) -> Failed | None:
        """The request's time on one neuron. The failure to send to its client, if that is its end."""
        if not attempt.begin(self._loop.scheduler.state.file(neuron, job.model)):
            self._ended(job, Outcome(OutcomeKind.CANCELLED))
            attempt.end = failed(Unavailable("the answer broke off, and no neuron left has the same file"))
            return attempt.end
        clock = self._loop.clock
        entry = Running(job.id, neuron, clock())

        def on_events(events: list[Event]) -> None:
            entry.heard_at = clock()
            shown = attempt.feed(events, neuron)
            if attempt.finished:
                self._ended(job, Outcome(OutcomeKind.DONE))
            if shown:
                emit(shown)

        why = ""
        try:
            with self._mailboxes.running(entry):
                request = attempt.request(clock() - job.arrived_at)
                entry.stream = self._connections.submit(neuron, request, on_events)  # 2
                await entry.stream.ended
        except Lost as lost:
            why = str(lost)
        except CortexError as error:
            attempt.end = failed(error)
        return self._after(attempt, job, neuron, why)  # 3

    @contextmanager
    def _queued(self, request: Request) -> Iterator[tuple[Job, Mailbox]]:
        """Registers the request with the scheduler, and removes it at the end whatever happens."""
        patient = isinstance(request, InferenceRequest) and request.streamed
        job = Job(request.id, request.model, self._loop.clock(), request, request.principal, patient)
        with self._mailboxes.mailbox(job.id) as mailbox:
            self._loop.post(lambda scheduler, now: scheduler.on_request(job, now))
            try:
                yield job, mailbox
            finally:
                self._loop.post(lambda scheduler, now: scheduler.on_cancel(job.id, now))

    def _after(self, attempt: FailoverState, job: Job, neuron: str, why: str) -> Failed | None:
        """After the request's time on a neuron: report the outcome, and requeue the request if it can go on elsewhere.
        Otherwise the failure to send to its client."""
        end = attempt.end
        if isinstance(end, Finished):
            return None
        if isinstance(end, Failed) and end.code not in _ELSEWHERE:
            self._ended(job, Outcome(OutcomeKind.FAILED, end.message))
            return end
        outcome = attempt.broken(f"{neuron}: {end.message if end else why}")
        if attempt.may_move():
            attempt.move()
            self._on_failover(neuron)
            self._loop.post(lambda scheduler, now: scheduler.on_broken(job.id, outcome, now))
            return None
        self._ended(job, outcome)
        attempt.end = end or failed(Unavailable(f"the answer broke off ({outcome.why})"))
        return attempt.end

    def _ended(self, job: Job, outcome: Outcome) -> None:
        self._loop.post(lambda scheduler, now: scheduler.on_ended(job.id, outcome, now))
