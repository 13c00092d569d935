"""Why a model gets no memory, in words: one phrase per neuron for the fleet, byte by byte for one neuron. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cortex.placement.facts import Claim, DeviceMemory, DeviceSet, NeuronMemory, Resident

__all__ = ["byte_by_byte", "in_the_way", "too_small"]


def too_small(devices: Sequence[DeviceMemory], *, count: int, size: int, min_device_bytes: int) -> str:
    """No set of `count` devices could ever hold `size` bytes each."""
    largest = max((device.budget_bytes for device in devices), default=0)
    floor = f" on a device of at least {_mib(min_device_bytes)}" if min_device_bytes else ""
    sick = "".join(f"; {_unhealthy(device)}" for device in devices if not device.healthy)
    return (
        f"needs {count} device(s) with {_mib(size)} each{floor}; "
        f"it has {len(devices)}, the largest with {_mib(largest)}{sick}"
    )


def in_the_way(sets: Sequence[DeviceSet], protected: Iterable[Resident]) -> str:
    """What keeps the memory that the best set needs: `protected` residents, else something foreign."""
    if not sets:
        return "needs more devices than there are"
    keepers = [
        f"{resident.model} is pinned" if resident.pinned else f"{resident.model} has a higher residency priority"
        for resident in protected
    ]
    others = ", ".join(keepers) or "memory that cortex doesn't own is in use"
    return f"needs {_mib(max(sets[0].values()))}, and {others}"


def byte_by_byte(claim: Claim, sets: Sequence[DeviceSet], memory: NeuronMemory) -> str:
    """Which devices of the best set lack how many bytes, and who holds what there. Leaving residents count as gone."""
    if not sets:
        return f"{claim.model} needs more devices than this neuron has"
    staying = [resident for resident in memory.residents if not resident.leaving]
    free, devices = memory.free_bytes(staying), {device.id: device for device in memory.devices}
    lines = [_lack(devices[id_], size, free[id_], staying) for id_, size in sets[0].items()]
    return f"no room for {claim.model}: " + "; ".join(line for line in lines if line)


def _lack(device: DeviceMemory, size: int, free: int, staying: Sequence[Resident]) -> str:
    if not device.healthy:
        return _unhealthy(device)
    if size <= free:
        return ""
    holders = [
        f"{resident.model} holds {held}{' (pinned)' if resident.pinned else ''}"
        for resident in staying
        if (held := resident.bytes_by_device.get(device.id))
    ]
    if device.foreign_bytes:
        holders.append(f"other programs hold {device.foreign_bytes}")
    return (
        f"{device.id} lacks {size - free} bytes (needs {size} of a budget of {device.budget_bytes}"
        f"{', ' if holders else ''}{', '.join(holders)})"
    )


def _unhealthy(device: DeviceMemory) -> str:
    return f"{device.id} is unhealthy{f' ({device.health})' if device.health else ''}"


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
