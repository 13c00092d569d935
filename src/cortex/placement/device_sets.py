"""Which devices of a neuron could take a model together. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations, islice

from cortex.placement.facts import DeviceMemory, DeviceSet

__all__ = ["device_groups", "large_enough", "uniform_sets"]

_MOST_GROUPS = 64
"""Eight devices in threes are 56; beyond that only groups of the emptiest devices are tried."""


def large_enough(device: DeviceMemory, min_device_bytes: int) -> bool:
    """Whether the whole device, not only cortex's share of it, has at least `min_device_bytes`. One whose size nobody
    knows is judged by its budget."""
    return (device.total_bytes or device.budget_bytes) >= min_device_bytes


def device_groups(free: Mapping[str, int], count: int) -> list[tuple[str, ...]]:
    """Groups of `count` devices, those with most `free` bytes first and first in each group."""
    emptiest_first = sorted(free, key=lambda device: -free[device])
    return list(islice(combinations(emptiest_first, count), _MOST_GROUPS))


def uniform_sets(
    devices: Iterable[DeviceMemory], free: Mapping[str, int], *, count: int, size: int, min_device_bytes: int = 0
) -> list[DeviceSet]:
    """The sets of `count` healthy devices that could hold `size` bytes each if nothing else were there."""
    able = [
        device.id
        for device in devices
        if device.healthy and device.budget_bytes >= size and large_enough(device, min_device_bytes)
    ]
    return [dict.fromkeys(group, size) for group in device_groups({id_: free[id_] for id_ in able}, count)]
