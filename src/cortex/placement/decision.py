"""Where on one neuron a model goes, and who must leave for it. Pure: facts in, one decision out, no log, no clock.

Gateway and neuron decide by the same rules on the same facts. A gateway decides for each of its neurons and takes the
best decision (`plan.choose`); the neuron carries out what it decides, and asks again after each step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from msgspec import Struct, structs

from cortex.config.settings import EvictionConfig
from cortex.placement.facts import Claim, DeviceMemory, DeviceSet, NeuronMemory, Resident
from cortex.placement.reasons import in_the_way
from cortex.placement.residency import When, evictable_at, when_evictable
from cortex.placement.victims import cheapest_set

__all__ = ["Decision", "Evict", "Place", "Refuse", "Wait", "decide"]

_VISIBLE_S, _LOOK_AGAIN_S = 5.0, 0.1
"""How long freed memory may take to show as free in the driver's figures, and how often to look meanwhile. Chosen, not
measured."""


class Place(Struct, frozen=True):
    """The model fits into free memory of these devices; `spare_bytes` would be left on the fullest of them."""

    bytes_by_device: Mapping[str, int]
    spare_bytes: int = 0


class Evict(Struct, frozen=True):
    """It fits there once `models` are unloaded, which would take `cost_s` to load again."""

    bytes_by_device: Mapping[str, int]
    models: tuple[str, ...]
    cost_s: float = 0.0


class Wait(Struct, frozen=True):
    """Memory will come when `models` are done or gone.

    `close`: those that have had their turn should get no new requests from now on. `until`: the time at which to ask
    again if nothing has happened before, None where no time changes anything.
    """

    reason: str
    models: tuple[str, ...] = ()
    close: tuple[str, ...] = ()
    until: float | None = None


class Refuse(Struct, frozen=True):
    """Not as things are. `permanent`: nothing that happens by itself will change it."""

    reason: str
    permanent: bool = False


Decision = Place | Evict | Wait | Refuse


def decide(
    claim: Claim, sets: Sequence[DeviceSet], memory: NeuronMemory, rules: EvictionConfig, now: float
) -> Decision:
    """`sets` are the device sets that could take the model, best first.

    1. A set of healthy devices has room: place it there.
    2. A set has room once models that are leaving anyway are gone: wait for them.
    3. A set would have room but for memory freed a moment ago that still shows as used: wait, a few seconds at most.
    4. A set has room without models that may go now: evict the least valuable of them.
    5. A set has room without unprotected models whose time hasn't come: wait, and close those that have had their turn.
    6. Refuse.
    """
    healthy = {device.id for device in memory.devices if device.healthy}
    usable = [wanted for wanted in sets if wanted.keys() <= healthy]
    free = memory.free_bytes()
    for wanted in usable:  # 1
        if _fits(wanted, free):
            return Place(wanted, min((free[device] - size for device, size in wanted.items()), default=0))
    staying = [resident for resident in memory.residents if not resident.leaving]
    leaving = tuple(resident.model for resident in memory.residents if resident.leaving)
    if leaving:  # 2
        free = memory.free_bytes(staying)
        if any(_fits(wanted, free) for wanted in usable):
            return Wait(f"waits for {', '.join(leaving)} to leave", leaving)
    if any(_settling(device, now) for device in memory.devices):  # 3
        settled = _settled(memory, now).free_bytes(staying)
        if any(_fits(wanted, settled) for wanted in usable):
            return Wait("waits for memory freed a moment ago to show as free", leaving, until=now + _LOOK_AGAIN_S)
    if claim.may_evict and (found := _make_room(claim, usable, free, staying, rules=rules, now=now)):  # 4, 5
        return found
    protected = [each for each in staying if when_evictable(each, claim, rules, now) is When.NEVER]
    return Refuse(in_the_way(sets, protected), permanent=bool(protected) or not sets)  # 6


def _make_room(
    claim: Claim,
    sets: Sequence[DeviceSet],
    free: Mapping[str, int],
    staying: Sequence[Resident],
    *,
    rules: EvictionConfig,
    now: float,
) -> Evict | Wait | None:
    """What the residents that stay would have to do for one of `sets`; None where even that isn't enough. `free` is
    beside all of them."""
    when = {resident.model: when_evictable(resident, claim, rules, now) for resident in staying}
    ready = [resident for resident in staying if when[resident.model] is When.NOW]
    if found := cheapest_set(sets, free, ready, rules):
        wanted, victims = found
        return Evict(wanted, _names(victims), sum(victim.load_s or 0.0 for victim in victims))
    movable = [resident for resident in staying if when[resident.model] is not When.NEVER]
    if found := cheapest_set(sets, free, movable, rules):
        names = _names(found[1])
        ripe = all(when[model] is not When.LATER for model in names)
        times = [evictable_at(resident, claim, rules, now) for resident in movable]
        until = min((at for at in times if now < at < math.inf), default=None)
        return Wait(f"waits for {', '.join(names)}", names, names if ripe else (), until)
    return None


def _fits(wanted: DeviceSet, free: Mapping[str, int]) -> bool:
    """A size that nobody knows (0) fits wherever the device itself does."""
    return all(size <= max(free[device], 0) for device, size in wanted.items())


def _settling(device: DeviceMemory, now: float) -> bool:
    return device.freed_at is not None and now - device.freed_at <= _VISIBLE_S


def _settled(memory: NeuronMemory, now: float) -> NeuronMemory:
    """`memory` as it will be when the drivers have caught up."""
    devices = [
        structs.replace(device, foreign_bytes=0) if _settling(device, now) else device for device in memory.devices
    ]
    return NeuronMemory(devices, memory.residents)


def _names(residents: Sequence[Resident]) -> tuple[str, ...]:
    return tuple(resident.model for resident in residents)
