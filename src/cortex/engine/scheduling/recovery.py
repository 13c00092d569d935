"""Setting the bookkeeping right when a batch was not computed, so that the next step can try again."""

from __future__ import annotations

import logging

from cortex.engine.kv.pool import Reuse
from cortex.engine.llama.context import Context
from cortex.engine.scheduling.scheduler import Entry, Scheduler

__all__ = ["Recovery"]

logger = logging.getLogger(__name__)


class Recovery:
    """For one engine. After each of these no entry of the failed batch counts as computed."""

    def __init__(self, scheduler: Scheduler, context: Context) -> None:
        self._scheduler = scheduler
        self._kv = scheduler.kv
        self._context = context

    def rewind(self, entries: list[Entry]) -> None:
        """llama.cpp refused the batch and left its memory as it was."""
        for entry in entries:
            sequence = entry.sequence
            assert sequence.slot is not None
            self._kv.rewind(sequence.slot, entry.start)
            sequence.tokens.truncate(len(sequence.tokens) - sequence.drafts)
            sequence.drafts = 0

    def no_cells(self, entries: list[Entry]) -> bool:
        """llama.cpp found no place, against our count: make room. False when there is nothing left to give up."""
        logger.warning("llama.cpp found no KV cells entries=%d free=%d", len(entries), self._kv.free)
        self.rewind(entries)
        if self._kv.cached:
            self._kv.clear()
        elif len(self._scheduler.running) > 1:
            self._scheduler.preempt_youngest()
        else:
            return False
        return True

    def aborted(self, entries: list[Entry]) -> None:
        """Some of the batch may be in memory: cut it off, or start the sequences anew where nothing can be cut."""
        self.rewind(entries)
        for entry in entries:
            if self._kv.reuse is Reuse.EXACT:
                self._scheduler.preempt(entry.sequence)
            elif entry.sequence.slot is not None:
                self._context.forget_beyond(entry.sequence.slot.id, entry.sequence.tokens.position(entry.start))

    def restore_failed(self, entries: list[Entry]) -> None:
        """A prefix didn't come back from host RAM, and others may have been copied from it: start everyone anew."""
        logger.warning("a saved prefix could not be restored running=%d", len(self._scheduler.running))
        self.rewind(entries)
        for sequence in list(self._scheduler.running):
            self._scheduler.preempt(sequence)
        self._kv.clear()
