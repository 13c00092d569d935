"""Where a model goes and who must leave for it. Pure: facts in, one decision out, no log, no clock of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

__all__ = ["Decision", "Evict", "Need", "Occupant", "Place", "Refuse", "Room", "Scene", "Wait", "decide", "expired"]

_SETTLED_S = 1.0
"""A model idle this long may go before its minimum residency ends: nobody is in the middle of using it."""

_VISIBLE_S, _LOOK_AGAIN_S = 5.0, 0.1
"""How long freed memory may take to show as free, and how often to look meanwhile."""


@dataclass(frozen=True, slots=True)
class Room:
    """A device: what cortex may use there, what others (desktops, foreign processes) hold of it, and its health.

    `health` says what ails it. `freed_at`: when cortex last gave memory back there; a driver may show it as used for a
    while after.
    """

    device: str
    budget_bytes: int
    foreign_bytes: int = 0
    healthy: bool = True
    health: str = ""
    freed_at: float | None = None


@dataclass(frozen=True, slots=True)
class Occupant:
    """A model holding memory. `busy` counts running and waiting requests alike: neither may lose its model."""

    model: str
    bytes_by_device: Mapping[str, int]
    busy: bool = False
    leaving: bool = False
    pinned: bool = False
    last_used_at: float = 0.0
    loaded_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Need:
    """`sets` are the device sets that could take the model, best first, each with the bytes needed per device.

    `evict` allows other models to be unloaded for it.
    """

    model: str
    sets: Sequence[Mapping[str, int]]
    evict: bool = True


@dataclass(frozen=True, slots=True)
class Scene:
    """How things stand at `now` (monotonic seconds); `residency_s` is how long a model may stay at least."""

    rooms: Sequence[Room]
    occupants: Sequence[Occupant]
    now: float
    residency_s: float


@dataclass(frozen=True, slots=True)
class Place:
    bytes_by_device: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Evict:
    """Unload these, then ask again."""

    models: list[str]


@dataclass(frozen=True, slots=True)
class Wait:
    """Room will come when `models` are done or gone; `until_s`: or ask again at this time."""

    models: list[str]
    until_s: float | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    reason: str


Decision = Place | Evict | Wait | Refuse


def decide(need: Need, scene: Scene) -> Decision:
    """1. A set of healthy devices has room: place it there.
    2. A set has room once models that are leaving anyway are gone: wait for them.
    3. A set would have room but for memory freed a moment ago that still shows as used: wait, a few seconds at most.
    4. A set has room without idle, unpinned models: evict the least recently used of them.
    5. A set has room without unpinned models, some still busy or too freshly loaded: wait.
    6. Refuse, saying for the best set which device lacks how much and who holds it.
    """
    by_name, occupants = {room.device: room for room in scene.rooms}, scene.occupants
    sets = [wanted for wanted in need.sets if all(by_name[name].healthy for name in wanted)]
    for wanted in sets:  # 1
        if _fits(wanted, by_name, occupants):
            return Place(wanted)
    staying = [occupant for occupant in occupants if not occupant.leaving]
    if any(_fits(wanted, by_name, staying) for wanted in sets):  # 2
        return Wait([occupant.model for occupant in occupants if occupant.leaving])
    settling = {room.device: _settled(room, scene.now) for room in scene.rooms}
    if any(_fits(wanted, settling, occupants) for wanted in sets):  # 3
        return Wait([], scene.now + _LOOK_AGAIN_S)
    if need.evict:
        idle = [occupant for occupant in staying if _evictable(occupant, scene)]
        plans = [plan for wanted in sets if (plan := _victims(wanted, by_name, staying, idle))]
        if plans:  # 4
            return Evict(min(plans, key=lambda plan: max(_last_used(plan, staying))))
        if any(_fits(wanted, by_name, [o for o in staying if o.pinned]) for wanted in sets):  # 5
            return _wait(staying, scene)
    return Refuse(_explain(need, by_name, staying))  # 6


def expired(occupants: Sequence[tuple[Occupant, float]], now: float) -> list[str]:
    """The idle, unpinned models whose time to live (seconds, 0 = for ever) has passed."""
    return [
        occupant.model
        for occupant, ttl_s in occupants
        if ttl_s and not (occupant.busy or occupant.pinned or occupant.leaving) and now - occupant.last_used_at >= ttl_s
    ]


def _settled(room: Room, now: float) -> Room:
    """`room` as it will be when the driver has caught up."""
    if room.freed_at is None or now - room.freed_at > _VISIBLE_S:
        return room
    return replace(room, foreign_bytes=0)


def _evictable(occupant: Occupant, scene: Scene) -> bool:
    if occupant.pinned or occupant.busy:
        return False
    return _free_at(occupant, scene) <= scene.now


def _free_at(occupant: Occupant, scene: Scene) -> float:
    return min(occupant.loaded_at + scene.residency_s, occupant.last_used_at + _SETTLED_S)


def _wait(staying: Sequence[Occupant], scene: Scene) -> Wait:
    movable = [occupant for occupant in staying if not occupant.pinned]
    times = [_free_at(occupant, scene) for occupant in movable if not occupant.busy]
    return Wait([occupant.model for occupant in movable], min((at for at in times if at > scene.now), default=None))


def _free(room: Room, occupants: Sequence[Occupant]) -> int:
    held = sum(occupant.bytes_by_device.get(room.device, 0) for occupant in occupants)
    return room.budget_bytes - room.foreign_bytes - held


def _fits(wanted: Mapping[str, int], rooms: Mapping[str, Room], occupants: Sequence[Occupant]) -> bool:
    return all(_free(rooms[device], occupants) >= size for device, size in wanted.items())


def _victims(
    wanted: Mapping[str, int], rooms: Mapping[str, Room], staying: Sequence[Occupant], idle: Sequence[Occupant]
) -> list[str]:
    """Least recently used first until it fits, then without those that turned out not to be needed."""
    there = sorted((o for o in idle if o.bytes_by_device.keys() & wanted.keys()), key=lambda o: o.last_used_at)
    gone: list[Occupant] = []
    for occupant in there:
        gone.append(occupant)
        if _fits(wanted, rooms, [o for o in staying if o not in gone]):
            break
    else:
        return []
    for occupant in list(gone):
        spared = [o for o in gone if o is not occupant]
        if _fits(wanted, rooms, [o for o in staying if o not in spared]):
            gone = spared
    return [occupant.model for occupant in gone]


def _last_used(models: Sequence[str], occupants: Sequence[Occupant]) -> list[float]:
    return [occupant.last_used_at for occupant in occupants if occupant.model in models]


def _explain(need: Need, rooms: Mapping[str, Room], staying: Sequence[Occupant]) -> str:
    if not need.sets:
        return f"{need.model} needs more devices than this neuron has"
    lines = [_lack(device, size, rooms[device], staying) for device, size in need.sets[0].items()]
    return f"no room for {need.model}: " + "; ".join(line for line in lines if line)


def _lack(device: str, size: int, room: Room, staying: Sequence[Occupant]) -> str:
    if not room.healthy:
        return f"{device} is unhealthy{f' ({room.health})' if room.health else ''}"
    missing = size - _free(room, staying)
    if missing <= 0:
        return ""
    holders = [
        f"{occupant.model} holds {occupant.bytes_by_device[device]}{' (pinned)' if occupant.pinned else ''}"
        for occupant in staying
        if occupant.bytes_by_device.get(device)
    ]
    if room.foreign_bytes:
        holders.append(f"other programs hold {room.foreign_bytes}")
    return (
        f"{device} lacks {missing} bytes (needs {size} of a budget of {room.budget_bytes}"
        f"{', ' if holders else ''}{', '.join(holders)})"
    )
