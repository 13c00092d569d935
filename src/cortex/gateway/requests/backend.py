"""The gateway's side of `serving.Backend`: a request's way through the queue, onto a neuron, and perhaps onto another.

The loop decides where a request runs and is told when that ended. In between, the neuron's frames go straight from its
connection to the client: nothing per event passes the loop.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from cortex.errors import CortexError, Unavailable
from cortex.gateway.neurons.client import Lost, Neurons
from cortex.gateway.requests.failover import FailoverState
from cortex.gateway.requests.mailboxes import Mailbox, Mailboxes, Running
from cortex.gateway.scheduling.catalogue import Catalogue
from cortex.gateway.scheduling.effects import Grant, Job, Outcome, OutcomeKind, Reject, SendProgress
from cortex.gateway.scheduling.loop import Loop
from cortex.serving.exchange.backend import Tap
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
        neurons: Neurons,
        mailboxes: Mailboxes,
        catalogue: Catalogue,
        on_failover: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._neurons = neurons
        self._mailboxes = mailboxes
        self._catalogue = catalogue
        self._on_failover = on_failover

    def models(self) -> list[tuple[ModelStatus, list[str]]]:
        return self._catalogue.models()

    def resolve(self, name: str) -> str:
        return self._catalogue.resolve(name)

    def ready(self) -> bool:
        """A gateway without a neuron that answers is alive, but of no use to a load balancer in front of it."""
        return any(neuron.takes_orders() for neuron in self._loop.scheduler.state.fleet)

    async def infer(self, request: Request, tap: Tap | None = None) -> AsyncGenerator[Sequence[Event], None]:
        """1. Wait for a place. 2. Granted: read the neuron's stream, whose middle goes through the tap. 3. It broke:
        wait for another place if the client need not notice, else that is the end. Leaving early, at any point, is the
        cancel."""
        attempt = FailoverState(request)
        with self._queued(request) as (job, mailbox):
            while not attempt.over:
                message = await mailbox.get()  # 1
                if isinstance(message, SendProgress) and attempt.wants_progress and not attempt.has_output:
                    yield [message.progress]
                elif isinstance(message, Reject):
                    attempt.end = message.failed
                    yield [message.failed]
                if not isinstance(message, Grant):
                    continue
                if not attempt.begin(self._loop.scheduler.state.file(message.neuron, request.model)):
                    self._ended(job, Outcome(OutcomeKind.CANCELLED))
                    attempt.end = failed(Unavailable("the answer broke off, and no neuron left has the same file"))
                    yield [attempt.end]
                    continue
                why = ""
                try:
                    neuron = self._loop.scheduler.state.fleet.neurons[message.neuron]
                    ask = attempt.request(self._loop.clock() - job.arrived_at)
                    stream = await self._neurons.infer(neuron, ask)
                    with self._mailboxes.running(job.id, neuron.name, stream, self._loop.clock()) as entry:
                        if tap is not None:
                            stream.divert(partial(self._take, attempt, entry, tap))
                        while not attempt.over:  # 2
                            events = attempt.feed(await stream.read(), neuron.name)
                            entry.read_at = self._loop.clock()
                            if attempt.finished:
                                self._ended(job, Outcome(OutcomeKind.DONE))
                            if events:
                                yield events
                except Lost as lost:
                    why = str(lost)
                except CortexError as error:
                    attempt.end = failed(error)
                if failure := self._after(attempt, job, message.neuron, why):  # 3
                    yield [failure]

    def _take(self, attempt: FailoverState, entry: Running, tap: Tap, events: list[Event]) -> bool:
        """Whether `events` went through the tap. An answer's beginning is read: it decides too much."""
        if not attempt.has_output or not tap.ready():
            return False
        entry.read_at = self._loop.clock()
        if shown := attempt.feed(events, entry.neuron):
            tap.put(shown)
        return True

    @contextmanager
    def _queued(self, request: Request) -> Iterator[tuple[Job, Mailbox]]:
        """The request's stay with the loop: announced at the beginning, gone at the end whatever happens."""
        patient = isinstance(request, InferenceRequest) and request.streamed
        job = Job(request.id, request.model, self._loop.clock(), request, request.principal, patient)
        with self._mailboxes.mailbox(job.id) as mailbox:
            self._loop.post(lambda scheduler, now: scheduler.on_request(job, now))
            try:
                yield job, mailbox
            finally:
                self._loop.post(lambda scheduler, now: scheduler.on_cancel(job.id, now))

    def _after(self, attempt: FailoverState, job: Job, neuron: str, why: str) -> Failed | None:
        """A neuron has nothing more to say: report it, and put the request back into the queue if it can go on
        elsewhere. Otherwise the failure its client is to be told."""
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
