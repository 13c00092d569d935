"""Prefixes in host RAM: which are stored, found and removed."""

from __future__ import annotations

import numpy as np
import pytest

from cortex.engine.kv.host_store import HostStore
from cortex.engine.kv.tokens import Int32Array, TokenBuffer


def tokens(count: int, seed: int = 0) -> Int32Array:
    return np.arange(seed * 10_000, seed * 10_000 + count, dtype=np.int32)


def store(budget: int = 1000, *, isolate: bool = False) -> HostStore:
    return HostStore(budget, isolate=isolate)


def add(store: HostStore, count: int, seed: int = 0, principal: str | None = None) -> None:
    """One byte of state per token."""
    store.add(tokens(count, seed), bytes(count), principal, [])


def lengths(store: HostStore) -> list[int]:
    return [stored.length for stored in store]


def test_short_prefixes_and_those_stored_already_are_not_wanted() -> None:
    host = store()
    assert not host.wants(tokens(63), None)
    assert host.wants(tokens(100), None)
    add(host, 100)
    assert not host.wants(tokens(80), None)
    assert host.wants(tokens(80), "another principal")
    assert host.wants(tokens(101), None)


def test_without_a_budget_nothing_is_wanted() -> None:
    assert not store(0).wants(tokens(100), None)
    assert not store(0).has_room(100)


def test_a_longer_prefix_replaces_the_one_it_contains() -> None:
    host = store()
    add(host, 100)
    add(host, 100, principal="another")
    add(host, 200)
    assert sorted(lengths(host)) == [100, 200]
    assert host.used_bytes == 300


def test_over_budget_the_prefix_used_longest_ago_is_removed() -> None:
    host = store(300)
    add(host, 100, 1)
    add(host, 100, 2)
    host.touch(next(iter(host)))
    add(host, 150, 3)
    assert sorted(lengths(host)) == [100, 150]
    assert host.best_match(TokenBuffer(tokens(100, 1)), None, whole=False)
    assert not host.best_match(TokenBuffer(tokens(100, 2)), None, whole=False)


def test_a_state_larger_than_the_budget_is_not_stored() -> None:
    host = store(100)
    add(host, 101)
    assert lengths(host) == []
    assert host.used_bytes == 0


def test_room_is_judged_by_the_last_prefix() -> None:
    host = store(300)
    host.add(tokens(64), bytes(128), None, [])
    assert host.has_room(86)
    assert not host.has_room(87)


@pytest.mark.parametrize(("whole", "shared"), [(False, 80), (True, None)])
def test_a_memory_that_cannot_be_cut_only_takes_whole_prefixes(whole: bool, shared: int | None) -> None:
    host = store()
    add(host, 100)
    wanted = TokenBuffer([*tokens(80).tolist(), *range(5)])
    found = host.best_match(wanted, None, whole=whole)
    assert (found[1] if found else None) == shared


def test_the_last_token_is_always_computed_anew() -> None:
    host = store()
    add(host, 100)
    found = host.best_match(TokenBuffer(tokens(100)), None, whole=False)
    assert found is not None
    assert found[1] == 99


@pytest.mark.parametrize(("isolate", "found"), [(False, True), (True, False)])
def test_isolated_prefixes_are_found_by_their_principal_only(isolate: bool, found: bool) -> None:
    host = store(isolate=isolate)
    add(host, 100, principal="alice")
    wanted = TokenBuffer(tokens(200))
    assert host.best_match(wanted, "alice", whole=False)
    assert bool(host.best_match(wanted, "mallory", whole=False)) is found
