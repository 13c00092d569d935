"""Changes llama.cpp's KV memory as decided; copies prefixes between it, host RAM and disk. In the loop's thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import numpy as np

from cortex.engine.kv.host_store import HostStore, StoredPrefix
from cortex.engine.kv.slot import Effect, Save, Slot
from cortex.engine.kv.tokens import Int32Array
from cortex.engine.llama.context import Context
from cortex.engine.scheduling.step_budget import StepBudget

__all__ = ["KvOffload", "SavedPrefix"]

logger = logging.getLogger(__name__)

_SUFFIX = ".kv"


class SavedPrefix(msgspec.Struct, frozen=True):
    """A prefix as it is written to disk, in msgpack; `state` is what llama.cpp wrote for exactly these tokens."""

    tokens: list[int]
    state: bytes
    principal: str | None = None
    hashes: list[int] = []


class KvOffload:
    """For one engine. The time that restores take goes into `budget`; `clock` is monotonic seconds."""

    def __init__(
        self, store: HostStore, context: Context, budget: StepBudget, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._context = context
        self._budget = budget
        self._clock = clock

    def apply(self, effects: Iterable[Effect]) -> None:
        """Change llama.cpp's memory as the scheduler has decided, in order; save what host RAM wants before it is lost.

        Raises DecodeFailed (fatal) if llama.cpp can't.
        """
        for effect in effects:
            if isinstance(effect, Save):
                self._save(effect.slot, effect.tokens)
            else:
                self._context.apply(effect)

    def _save(self, slot: Slot, tokens: Int32Array) -> None:
        if self._store.wants(tokens, slot.principal):
            self._store.add(tokens, self._context.save_slot(slot.id), slot.principal, slot.hashes)

    def restore(self, slot: Slot, stored: StoredPrefix) -> bool:
        """Fill the empty sequence id of `slot`. False if llama.cpp refuses the state, which is removed then."""
        began = self._clock()
        if self._context.restore_slot(slot.id, stored.state):
            self._budget.record_restore(len(stored.state), self._clock() - began)
            return True
        logger.warning("llama.cpp refused a saved prefix tokens=%d bytes=%d", stored.length, len(stored.state))
        self._store.remove(stored)
        return False

    def write(self, cached: list[Slot], directory: Path) -> tuple[int, int]:
        """Write the prefixes of the `cached` slots and of host RAM below `directory`, as far as the disk has room.

        Earlier files there are removed first. Returns the number of prefixes and of bytes written.
        """
        prefixes = [self._of_slot(slot) for slot in cached if slot.length]
        prefixes += [_of_stored(stored) for stored in self._store]
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
        """Read the files of `write` into host RAM, oldest first; a later request moves its prefix into the pool.

        A file that can't be read or decoded is skipped. Returns the number of prefixes and of bytes read.
        """
        count = total = 0
        for path in sorted(directory.glob(f"*{_SUFFIX}")):
            try:
                prefix = msgspec.msgpack.decode(path.read_bytes(), type=SavedPrefix)
            except (msgspec.DecodeError, OSError) as error:
                logger.warning("saved prefix unreadable path=%s error=%s", path, error)
                continue
            tokens = np.array(prefix.tokens, dtype=np.int32)
            self._store.add(tokens, prefix.state, prefix.principal, prefix.hashes)
            count, total = count + 1, total + len(prefix.state)
        return count, total

    def _of_slot(self, slot: Slot) -> SavedPrefix:
        tokens: list[int] = slot.tokens.view(0, slot.length).tolist()
        return SavedPrefix(tokens, self._context.save_slot(slot.id), slot.principal, slot.hashes)


def _of_stored(stored: StoredPrefix) -> SavedPrefix:
    tokens: list[int] = stored.tokens.view().tolist()
    return SavedPrefix(tokens, stored.state, stored.principal, stored.hashes)
