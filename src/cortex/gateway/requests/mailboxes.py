"""The scheduler's messages to each waiting request, and the requests that run, which can be broken off."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from cortex.errors import CortexError, Forbidden
from cortex.gateway.neurons.fleet import Lost
from cortex.gateway.neurons.request_stream import RequestStream
from cortex.gateway.scheduling.effects import Grant, ModelReady, Reject, SendProgress
from cortex.wire.events import failed

__all__ = ["Mailbox", "Mailboxes", "Message", "Running"]

Message = Grant | Reject | SendProgress | ModelReady


class Mailbox:
    """One job's messages. A progress message replaces an unread one: only the latest matters."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._progress: SendProgress | None = None

    def put(self, message: Message) -> None:
        if isinstance(message, SendProgress):
            unread, self._progress = self._progress, message
            if unread is not None:
                return
        self._messages.put_nowait(message)

    def get_nowait(self) -> Message | None:
        return None if self._messages.empty() else self._messages.get_nowait()

    async def get(self) -> Message:
        message = await self._messages.get()
        if isinstance(message, SendProgress):
            message, self._progress = self._progress or message, None
        return message


class Running:
    """A request on a neuron: whose it is, where it runs, and when its neuron last sent something for it."""

    __slots__ = ("error", "heard_at", "job_id", "neuron", "stream")

    def __init__(self, job_id: str, neuron: str, now: float) -> None:
        self.job_id = job_id
        self.neuron = neuron
        self.heard_at = now
        self.stream: RequestStream | None = None
        self.error: Lost | CortexError | None = None

    def break_off(self, error: Lost | CortexError) -> None:
        self.error = error
        if self.stream is not None:
            self.stream.close()


class Mailboxes:
    """Mailboxes by job, and the streams that are open. Its methods are called from the event loop's thread only."""

    def __init__(self) -> None:
        self._mailboxes: dict[str, Mailbox] = {}
        self._streams: set[Running] = set()

    @contextmanager
    def mailbox(self, job_id: str) -> Iterator[Mailbox]:
        box = self._mailboxes[job_id] = Mailbox()
        try:
            yield box
        finally:
            del self._mailboxes[job_id]

    def deliver(self, message: Message) -> None:
        """A message for a job that has just left is dropped: the scheduler is being told that it left."""
        if box := self._mailboxes.get(message.job_id):
            box.put(message)

    @contextmanager
    def running(self, entry: Running) -> Iterator[None]:
        """While the request is on a neuron. A Lost that we caused by breaking it off becomes what `break_off` was
        given."""
        self._streams.add(entry)
        try:
            yield
        except Lost as lost:
            raise entry.error or lost from lost
        finally:
            self._streams.discard(entry)
            if entry.stream is not None:
                entry.stream.close()

    def break_off(self, neuron: str, why: str) -> None:
        """Nothing will come from this neuron any more: its streams fail now instead of waiting."""
        for entry in [entry for entry in self._streams if entry.neuron == neuron]:
            entry.break_off(Lost(why))

    def break_stalled(self, now: float, limit_s: float) -> None:
        """Break off the streams whose neuron sent nothing for `limit_s`."""
        for entry in [entry for entry in self._streams if now - entry.heard_at > limit_s]:
            entry.break_off(Lost(f"it sent nothing for {limit_s:.0f} s"))

    def cancel(self, job_id: str) -> bool:
        """End a request for an operator; its client gets an error. Returns whether there was one."""
        box = self._mailboxes.get(job_id)
        if box is None:
            return False
        error = Forbidden("an operator cancelled this request")
        box.put(Reject(job_id, failed(error), "operator"))
        for entry in [entry for entry in self._streams if entry.job_id == job_id]:
            entry.break_off(error)
        return True

    @property
    def streams(self) -> int:
        return len(self._streams)
