"""States between llama.cpp's memory, host RAM and disk, with a context that only records."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from cortex.engine.kv.host_store import HostStore
from cortex.engine.kv.offload import KvOffload
from cortex.engine.kv.slot import Discard, Effect, Save, Slot
from cortex.engine.kv.tokens import TokenBuffer
from cortex.engine.scheduling.step_budget import StepBudget


class Memory:
    """A context's sequence ids and their states. `refuses`: takes no state back."""

    def __init__(self) -> None:
        self.refuses = False
        self.states = {0: b"zero", 1: b"one"}

    def save_slot(self, slot: int) -> bytes:
        return self.states[slot]

    def restore_slot(self, slot: int, state: bytes) -> bool:
        if not self.refuses:
            self.states[slot] = state
        return not self.refuses

    def apply(self, effect: Effect) -> None:
        assert isinstance(effect, Discard)
        del self.states[effect.slot]


def slot(number: int, count: int = 100) -> Slot:
    return Slot(number, TokenBuffer([number * 1000 + i for i in range(count)]), "ann", count, running=False, hashes=[7])


def offload(memory: Memory, budget: int = 1000) -> tuple[KvOffload, HostStore, StepBudget]:
    host, times = HostStore(budget), StepBudget(ubatch=512, stall_s=1.0)
    ticks = iter(range(1000))
    return KvOffload(host, cast("Any", memory), times, clock=lambda: float(next(ticks))), host, times


def test_a_dropped_prefix_is_saved_before_it_is_discarded() -> None:
    memory = Memory()
    moved, host, _ = offload(memory)
    dropped = slot(0)
    moved.apply([Save(dropped, dropped.tokens.view()), Discard(0)])
    assert [(stored.state, stored.principal, stored.hashes) for stored in host] == [(b"zero", "ann", [7])]
    assert 0 not in memory.states


def test_how_long_a_restore_takes_is_measured() -> None:
    moved, host, times = offload(Memory())
    host.add(np.arange(100, dtype=np.int32), b"four", None, [])
    assert moved.restore(slot(1), next(iter(host)))
    assert times.restore_rate == len(b"four")


def test_a_state_that_llama_cpp_refuses_is_removed(caplog: pytest.LogCaptureFixture) -> None:
    memory = Memory()
    moved, host, times = offload(memory)
    host.add(np.arange(100, dtype=np.int32), b"four", None, [])
    memory.refuses = True
    with caplog.at_level(logging.WARNING):
        assert not moved.restore(slot(1), next(iter(host)))
    assert list(host) == []
    assert times.restore_rate == 0
    assert "refused a saved prefix" in caplog.text


def test_prefixes_of_pool_and_ram_come_back_from_disk(tmp_path: Path) -> None:
    moved, host, _ = offload(Memory())
    host.add(np.arange(5000, 5100, dtype=np.int32), b"in RAM", "bob", [8])
    count, size = moved.write([slot(0), slot(1), slot(1, 0)], tmp_path / "state")
    assert count == 3
    assert size == sum(path.stat().st_size for path in (tmp_path / "state").iterdir())
    read, restored, _ = offload(Memory())
    assert read.read(tmp_path / "state") == (3, len(b"zero" + b"one" + b"in RAM"))
    assert [(one.tokens[0], one.state, one.principal, one.hashes) for one in restored] == [
        (0, b"zero", "ann", [7]),
        (1000, b"one", "ann", [7]),
        (5000, b"in RAM", "bob", [8]),
    ]


def test_writing_replaces_what_was_written_before(tmp_path: Path) -> None:
    moved, _, _ = offload(Memory())
    moved.write([slot(0), slot(1)], tmp_path)
    moved.write([slot(1)], tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_damaged_file_is_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    moved, _, _ = offload(Memory())
    moved.write([slot(0), slot(1)], tmp_path)
    (tmp_path / "0000.kv").write_bytes(b"not msgpack")
    read, restored, _ = offload(Memory())
    with caplog.at_level(logging.WARNING):
        assert read.read(tmp_path)[0] == 1
    assert [stored.state for stored in restored] == [b"one"]
    assert "0000.kv" in caplog.text


def test_a_directory_that_cannot_be_written_costs_the_prefixes_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    moved, _, _ = offload(Memory())
    with caplog.at_level(logging.WARNING):
        assert moved.write([slot(0)], tmp_path / "file") == (0, 0)
    assert "only 0 of 1 prefixes saved" in caplog.text
