"""Two sides share the cores: never both at once, and neither starves."""

from __future__ import annotations

import threading
import time
from itertools import groupby

from cortex.engine.vision.cpu_sharing import CpuSharing, Side


class Clock:
    """Moved by hand, a piece of work at a time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def wait_for_the_loop(turns: CpuSharing) -> None:
    while Side.LOOP not in turns._waiting:
        time.sleep(0.0001)


def test_alone_either_side_goes_on_without_waiting() -> None:
    turns = CpuSharing(slice_s=10.0)
    for _ in range(3):
        with turns.of(Side.LOOP):
            pass
    with turns.of(Side.ENCODER):
        for _ in range(3):
            turns.pause()


def test_an_encoding_gives_way_to_a_waiting_step_when_its_slice_is_over() -> None:
    clock = Clock()
    turns = CpuSharing(slice_s=1.0, clock=clock)
    stepped = threading.Event()

    def step() -> None:
        with turns.of(Side.LOOP):
            stepped.set()
            clock.now += 2

    with turns.of(Side.ENCODER):
        loop = threading.Thread(target=step)
        loop.start()
        wait_for_the_loop(turns)
        turns.pause()
        assert not stepped.is_set()
        clock.now += 1
        turns.pause()  # returns when the loop has had its turn
        assert stepped.is_set()
    loop.join(60)


def test_both_sides_get_their_share() -> None:
    """Work of one takes ten times as long as the other's, and both have much of it: the loop waits whenever it may."""
    clock = Clock()
    turns = CpuSharing(slice_s=1.0, clock=clock)
    log: list[Side] = []
    inside = threading.Lock()

    def work(side: Side, seconds: float) -> None:
        assert inside.acquire(blocking=False), "both sides at once"
        clock.now += seconds
        log.append(side)
        inside.release()

    def encode() -> None:
        with turns.of(Side.ENCODER):
            for _ in range(20):
                wait_for_the_loop(turns)
                work(Side.ENCODER, 0.3)
                turns.pause()

    encoder = threading.Thread(target=encode)
    encoder.start()
    while encoder.is_alive():
        with turns.of(Side.LOOP):
            work(Side.LOOP, 0.03)
    encoder.join(60)
    rounds = [side for side, _ in groupby(log)]
    assert rounds.count(Side.ENCODER) >= 4
    assert log.count(Side.LOOP) >= log.count(Side.ENCODER)
