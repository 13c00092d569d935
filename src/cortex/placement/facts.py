"""What a placement decision is made on: a neuron's devices, the models on them, and the claim of one that wants in.

Pure values. Sizes are bytes, times are seconds of one monotonic clock, the caller's. A neuron fills them from its own
ledger, the gateway from the neuron's last status.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

__all__ = ["Claim", "DeviceMemory", "DeviceSet", "NeuronMemory", "Resident"]

DeviceSet = Mapping[str, int]
"""Devices that could take a model together: the bytes needed on each, by device id. 0 = nobody knows how many."""


class DeviceMemory(Struct, frozen=True):
    """One device: what cortex may use of it, and what is taken by others than its residents.

    `foreign_bytes` is memory in use that belongs to no resident (other programs, our own CUDA contexts).
    `promised_bytes` go to loads that were ordered and that no resident shows yet: the gateway's unanswered orders. A
    neuron has none, since it reserves in the same step as it decides. `freed_at` is when cortex last gave memory back
    there, None where the caller can't know (the gateway): a driver may go on counting it as used, and so as foreign.
    `health` says why it isn't `healthy`.
    """

    id: str
    budget_bytes: int
    total_bytes: int = 0
    foreign_bytes: int = 0
    promised_bytes: int = 0
    freed_at: float | None = None
    healthy: bool = True
    health: str = ""


class Resident(Struct, frozen=True):
    """A model that holds memory of a neuron.

    `busy`: requests run on it. `wanted`: requests wait for it. `loading`: not ready yet. `leaving`: on its way out, its
    memory comes free by itself. `load_s` is what loading it again would take, None before one load was seen.
    """

    model: str
    bytes_by_device: Mapping[str, int]
    loaded_at: float = 0.0
    used_at: float = 0.0
    priority: int = 100
    load_s: float | None = None
    pinned: bool = False
    busy: bool = False
    wanted: bool = False
    loading: bool = False
    leaving: bool = False


class Claim(Struct, frozen=True):
    """A model that wants memory: its residency priority, and how long its oldest request has waited.

    `may_evict` off: nothing may be unloaded for it, it takes what is free or will be. So for a further copy of a model,
    and in a neuron for an order whose sender has decided itself what must go.
    """

    model: str
    priority: int = 100
    waited_s: float = 0.0
    may_evict: bool = True


class NeuronMemory(Struct, frozen=True):
    """All devices of one neuron and all residents, at one moment."""

    devices: Sequence[DeviceMemory]
    residents: Sequence[Resident] = ()

    def free_bytes(self, residents: Iterable[Resident] | None = None) -> dict[str, int]:
        """What may be given away on each device while `residents` (default: all) hold theirs. Negative where more is
        taken than the budget allows."""
        free = {each.id: each.budget_bytes - each.foreign_bytes - each.promised_bytes for each in self.devices}
        for resident in self.residents if residents is None else residents:
            for device, size in resident.bytes_by_device.items():
                if device in free:
                    free[device] -= size
        return free
