"""Two users of the cores: never both at once, and neither starves."""

from __future__ import annotations

import threading
import time
from itertools import groupby

from cortex.engine.vision.cpu_sharing import CpuSharing, CpuUser


class Clock:
    """Set by the test, a piece of work at a time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def wait_for_the_loop(cpu: CpuSharing) -> None:
    while CpuUser.LOOP not in cpu._waiting:
        time.sleep(0.0001)


def test_alone_either_user_computes_without_waiting() -> None:
    cpu = CpuSharing(slice_s=10.0)
    for _ in range(3):
        with cpu.slice_of(CpuUser.LOOP):
            pass
    with cpu.slice_of(CpuUser.ENCODER):
        for _ in range(3):
            cpu.pause()


def test_an_encoding_lets_a_waiting_step_in_when_its_slice_is_over() -> None:
    clock = Clock()
    cpu = CpuSharing(slice_s=1.0, clock=clock)
    stepped = threading.Event()

    def step() -> None:
        with cpu.slice_of(CpuUser.LOOP):
            stepped.set()
            clock.now += 2

    with cpu.slice_of(CpuUser.ENCODER):
        loop = threading.Thread(target=step)
        loop.start()
        wait_for_the_loop(cpu)
        cpu.pause()
        assert not stepped.is_set()
        clock.now += 1
        cpu.pause()  # returns when the loop has had its slice
        assert stepped.is_set()
    loop.join(60)


def test_both_users_get_their_share() -> None:
    """A piece of one's work takes ten times as long as one of the other's, and both have many."""
    clock = Clock()
    cpu = CpuSharing(slice_s=1.0, clock=clock)
    log: list[CpuUser] = []
    inside = threading.Lock()

    def work(user: CpuUser, seconds: float) -> None:
        assert inside.acquire(blocking=False), "both users at once"
        clock.now += seconds
        log.append(user)
        inside.release()

    def encode() -> None:
        with cpu.slice_of(CpuUser.ENCODER):
            for _ in range(20):
                wait_for_the_loop(cpu)
                work(CpuUser.ENCODER, 0.3)
                cpu.pause()

    encoder = threading.Thread(target=encode)
    encoder.start()
    while encoder.is_alive():
        with cpu.slice_of(CpuUser.LOOP):
            work(CpuUser.LOOP, 0.03)
    encoder.join(60)
    rounds = [user for user, _ in groupby(log)]
    assert rounds.count(CpuUser.ENCODER) >= 4
    assert log.count(CpuUser.LOOP) >= log.count(CpuUser.ENCODER)
