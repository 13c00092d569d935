"""Which devices could take a model together."""

from __future__ import annotations

from cortex.placement.device_sets import device_groups, large_enough, uniform_sets
from cortex.placement.facts import DeviceMemory


def test_the_emptiest_devices_come_first() -> None:
    free = {"d0": 10, "d1": 30, "d2": 20}
    assert device_groups(free, 1) == [("d1",), ("d2",), ("d0",)]
    assert device_groups(free, 2) == [("d1", "d2"), ("d1", "d0"), ("d2", "d0")]
    assert device_groups(free, 4) == []


def test_devices_that_are_equally_empty_keep_their_order() -> None:
    assert device_groups({"d2": 5, "d10": 5, "d1": 5}, 1) == [("d2",), ("d10",), ("d1",)]


def test_groups_of_many_devices_are_bounded_and_begin_with_the_emptiest() -> None:
    free = {f"d{n}": n for n in range(16)}
    groups = device_groups(free, 10)
    assert len(groups) == 64
    assert groups[0] == tuple(f"d{n}" for n in range(15, 5, -1))


def test_the_floor_is_the_size_of_the_device_and_not_of_cortexs_share() -> None:
    """A card of 24 GB with a margin has less than that to give, and is a card of 24 GB all the same."""
    card = DeviceMemory("d0", 22, 24)
    assert large_enough(card, 24)
    assert not large_enough(card, 25)
    assert not large_enough(DeviceMemory("d0", 22), 24)


def test_only_healthy_devices_that_could_ever_hold_it_are_considered() -> None:
    devices = [
        DeviceMemory("fit", 100),
        DeviceMemory("small", 10),
        DeviceMemory("sick", 100, healthy=False),
        DeviceMemory("full", 100, foreign_bytes=90),
    ]
    free = {"fit": 100, "small": 10, "sick": 100, "full": 10}
    assert uniform_sets(devices, free, count=1, size=50) == [{"fit": 50}, {"full": 50}]
    assert uniform_sets(devices, free, count=3, size=50) == []
