"""Moving prefixes between the KV pool, host RAM and disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from cortex.engine.kv.host_store import HostStore, SavedPrefix, Stored
from cortex.engine.kv.pool import KvPool, Slot
from cortex.engine.llama.context import Context
from cortex.engine.scheduling.sequence import Int32Array
from cortex.engine.scheduling.step_budget import StepBudget

__all__ = ["KvOffload"]

logger = logging.getLogger(__name__)

_SUFFIX = ".kv"


class KvOffload:
    """Effects for one engine's HostCache, in the loop's thread. How long they take goes into `pace`."""

    def __init__(
        self, cache: HostStore, context: Context, pace: StepBudget, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.cache = cache
        self._context = context
        self._pace = pace
        self._clock = clock

    def save(self, slot: Slot, tokens: Int32Array) -> None:
        """Copy the slot's state out before its cells are given to others, if it is worth that."""
        if self.cache.wants(tokens, slot.principal):
            self.cache.add(tokens, self._context.save_slot(slot.id), slot.principal, slot.hashes)

    def restore(self, slot: Slot, stored: Stored) -> bool:
        """Fill the slot; a state that llama.cpp doesn't take is thrown away."""
        began = self._clock()
        if self._context.restore_slot(slot.id, stored.state):
            self._pace.record_restore(len(stored.state), self._clock() - began)
            return True
        self.cache.remove(stored)
        return False

    def write(self, kv: KvPool, directory: Path) -> tuple[int, int]:
        """Write every finished prefix, of pool and RAM, below `directory`, as far as the disk takes them; (how many,
        bytes)."""
        prefixes = [self._of_slot(slot) for slot in kv.cached_slots() if slot.length]
        prefixes += [_of_stored(stored) for stored in self.cache]
        count = total = 0
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for old in directory.glob(f"*{_SUFFIX}"):
                old.unlink()
            for prefix in prefixes:
                total += (directory / f"{count:04d}{_SUFFIX}").write_bytes(msgspec.msgpack.encode(prefix))
                count += 1
        except OSError as error:
            logger.warning("only %d of %d prefixes saved error=%s", count, len(prefixes), error)
        return count, total

    def read(self, directory: Path) -> tuple[int, int]:
        """Take what `write` left into host RAM, oldest first; it moves into the pool when a request wants it."""
        count = total = 0
        for path in sorted(directory.glob(f"*{_SUFFIX}")):
            try:
                prefix = msgspec.msgpack.decode(path.read_bytes(), type=SavedPrefix)
            except (msgspec.DecodeError, OSError) as error:
                logger.warning("saved prefix unreadable path=%s error=%s", path, error)
                continue
            tokens = np.array(prefix.tokens, dtype=np.int32)
            self.cache.add(tokens, prefix.state, prefix.principal, prefix.hashes)
            count, total = count + 1, total + len(prefix.state)
        return count, total

    def _of_slot(self, slot: Slot) -> SavedPrefix:
        tokens: list[int] = slot.tokens.view(0, slot.length).tolist()
        return SavedPrefix(tokens, self._context.save_slot(slot.id), slot.principal, slot.hashes)


def _of_stored(stored: Stored) -> SavedPrefix:
    tokens: list[int] = stored.tokens.view().tolist()
    return SavedPrefix(tokens, stored.state, stored.principal, stored.hashes)
