"""The requests of one engine, from their start to their end. A request that raises anything ends alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import ParamSpec

from cortex.engine.llama.context import DecodeFailed
from cortex.engine.request.outbox import EventOutbox
from cortex.engine.request.state import ChoiceState, RequestState
from cortex.engine.request.stats import ModelStats
from cortex.engine.scheduling.scheduler import Scheduler
from cortex.errors import CortexError, DeadlineExceeded, InternalError
from cortex.wire.events import failed

__all__ = ["ActiveRequests"]

logger = logging.getLogger(__name__)

P = ParamSpec("P")


class ActiveRequests:
    """Everything that starts or ends a request of `scheduler` happens here. `clock` is monotonic seconds."""

    def __init__(
        self, scheduler: Scheduler[ChoiceState], outbox: EventOutbox, stats: ModelStats, clock: Callable[[], float]
    ) -> None:
        self._scheduler = scheduler
        self._outbox = outbox
        self._stats = stats
        self._clock = clock
        self._requests: dict[str, RequestState] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[RequestState]:
        return iter(self._requests.values())

    def attempt(self, request: RequestState, act: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call `act` for `request`; whatever it raises ends this request, and no other.

        A DecodeFailed is raised: it concerns the context, not the request.
        """
        try:
            act(*args, **kwargs)
        except DecodeFailed:
            raise
        except CortexError as error:
            self.fail(request, error)
        except Exception as error:  # noqa: BLE001 - logged by `fail_unexpectedly`
            self.fail_unexpectedly(request, error)

    # ---- the start

    def add(self, request: RequestState) -> None:
        self._requests[request.id] = request
        self._stats.requests += 1

    def enter(self, choices: Iterable[ChoiceState]) -> None:
        """The choices of a request may be scheduled."""
        for choice in choices:
            self._scheduler.submit(choice)
            choice.entered = True

    def start(self, request: RequestState) -> None:
        """`request` begins to be computed."""
        self._outbox.extend(request.id, request.start(self._clock()))
        self._stats.started(request)

    def announce(self, choices: Iterable[ChoiceState]) -> None:
        """Start the requests of `choices` that haven't started yet."""
        for choice in choices:
            if choice.request.started_s is None and not choice.request.ended:
                self.attempt(choice.request, self.start, choice.request)

    # ---- the end

    def end_choice(self, choice: ChoiceState, *, keep: bool = True) -> None:
        """Take a choice off the scheduler; what it has computed may still serve others if `keep`."""
        if choice.entered:
            choice.entered = False
            self._scheduler.finish(choice, keep=keep and choice.request.prepared.request.cache_prompt)
        choice.sampler.close()

    def finish(self, request: RequestState) -> None:
        """All choices have ended."""
        end = request.end(self._clock())
        self._stats.finished(request)
        self._release(request, keep=True)
        self._outbox.add(request.id, end)

    def count(self, request: RequestState) -> None:
        """End a request that only asks for the number of its tokens."""
        self._release(request, keep=True)
        self._outbox.extend(request.id, request.counted())

    def fail(self, request: RequestState, error: CortexError, *, keep: bool = True) -> None:
        self._release(request, keep=keep)
        self._outbox.add(request.id, failed(error))

    def fail_unexpectedly(self, request: RequestState, error: BaseException) -> None:
        """`error` is a mistake of ours: it is logged with its traceback, and nothing of the request is kept."""
        logger.error("request failed unexpectedly id=%s", request.id, exc_info=error)
        if self._requests.get(request.id) is request:
            self.fail(request, InternalError(f"{type(error).__name__}: {error}"), keep=False)

    def cancel(self, request_id: str) -> None:
        """Drop a request without a terminal event. An unknown id is a late cancel of a request that has ended."""
        self._outbox.drop(request_id)
        if request := self._requests.get(request_id):
            self._release(request, keep=True)

    def fail_expired(self) -> None:
        now = self._clock()
        for request in [one for one in self if one.deadline_s is not None and now >= one.deadline_s]:
            self.fail(request, DeadlineExceeded(f"not finished within {request.prepared.request.deadline_s:g} s"))

    def fail_all(self, error: CortexError, *, running: bool = False) -> None:
        """Fail every request, or with `running` those that are being computed."""
        for request in list(self):
            if not running or any(choice.slot for choice in request.choices):
                self.fail(request, error)

    def forget_all(self, error: CortexError) -> None:
        """Fail every request without the scheduler, which is reset."""
        for request in list(self):
            for choice in request.choices:
                choice.entered = False
            self.fail(request, error)

    def _release(self, request: RequestState, *, keep: bool) -> None:
        request.ended = True
        for picture in request.prepared.pictures:
            picture.drop()
        for choice in request.choices:
            self.end_choice(choice, keep=keep)
        request.choices.clear()  # no reference cycle is left to the garbage collector
        if self._requests.get(request.id) is request:
            del self._requests[request.id]
