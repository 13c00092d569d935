"""The pool's operations one by one, and the effects they order; the scheduler's tests run them in all orders."""

from __future__ import annotations

import pytest

from cortex.engine.kv.pool import KvPool
from cortex.engine.kv.slot import CopyPrefix, Discard, Reuse, Save, Slot, Truncate
from cortex.engine.kv.tokens import TokenBuffer


def pool(reuse: Reuse = Reuse.PARTIAL) -> KvPool:
    return KvPool(100, 4, reuse)


def opened(kv: KvPool, count: int, seed: int = 0) -> Slot:
    """A running slot whose `count` tokens were computed."""
    slot = kv.open(TokenBuffer([seed * 1000 + i for i in range(count)]), None, [])
    kv.extend(slot, count)
    return slot


def test_a_refused_batch_is_taken_back_without_an_effect() -> None:
    kv = pool()
    slot = opened(kv, 10)
    kv.extend(slot, 5)
    kv.rewind(slot, 10)
    assert (slot.length, kv.free, kv.pinned) == (10, 90, 10)
    assert kv.take_effects() == []
    kv.check_integrity()


def test_a_cut_is_ordered_from_llama_cpp_and_frees_cells() -> None:
    kv = pool()
    slot = opened(kv, 10)
    kv.truncate(slot, 10)
    assert kv.take_effects() == []
    kv.truncate(slot, 7)
    assert kv.take_effects() == [Truncate(slot.id, 7)]
    assert (slot.length, kv.free) == (7, 93)
    kv.check_integrity()


def test_a_memory_without_rollback_is_never_cut() -> None:
    kv = pool(Reuse.EXACT)
    slot = opened(kv, 10)
    with pytest.raises(AssertionError, match="rolled back"):
        kv.truncate(slot, 7)


def test_a_copied_prefix_shares_its_cells_with_a_running_slot() -> None:
    kv = pool()
    source = opened(kv, 10)
    match = kv.best_match(TokenBuffer([*range(8), 77, 78]), None)
    assert match is not None
    copy = kv.open(TokenBuffer([*range(8), 77, 78]), None, [5], match)
    assert (copy.length, copy.hashes, kv.free, kv.pinned) == (8, [5], 90, 10)
    assert kv.take_effects() == [CopyPrefix(source.id, copy.id, 8)]
    kv.check_integrity()


def test_a_cached_slot_that_is_shared_in_full_is_continued_without_a_copy() -> None:
    kv = pool()
    cached = opened(kv, 10)
    kv.close(cached, keep=True)
    assert (kv.cached, kv.pinned) == (10, 0)
    wanted = TokenBuffer(list(range(12)))
    match = kv.best_match(wanted, None)
    assert match is not None
    assert match.takes_over
    assert kv.open(wanted, None, [], match) is cached
    assert kv.take_effects() == []
    assert (kv.cached, kv.pinned) == (0, 10)
    kv.check_integrity()


def test_a_dropped_prefix_may_be_saved_before_it_is_discarded() -> None:
    kv = pool()
    slot = opened(kv, 10)
    kv.close(slot, keep=True)
    assert kv.drop_oldest()
    save, discard = kv.take_effects()
    assert isinstance(save, Save)
    assert (save.slot, save.tokens.tolist()) == (slot, list(range(10)))
    assert discard == Discard(slot.id)
    assert not kv.drop_oldest()
    assert kv.free == 100
    kv.check_integrity()


def test_a_finished_sequence_replaces_the_cached_prefixes_it_contains() -> None:
    kv = pool()
    short, other, long = opened(kv, 10), opened(kv, 10, 1), opened(kv, 20)
    for slot in (short, other, long):
        kv.close(slot, keep=True)
    assert kv.cached_slots() == [other, long]
    kv.check_integrity()


def test_a_memory_that_shares_nothing_keeps_nothing() -> None:
    kv = pool(Reuse.NONE)
    slot = opened(kv, 10)
    assert kv.best_match(TokenBuffer(list(range(12))), None) is None
    kv.close(slot, keep=True)
    assert kv.take_effects() == [Discard(slot.id)]
    assert kv.free == 100
