"""Where a model could be loaded, by bytes per device, and why. Pure.

Order of preference: fits free → fits by evicting → most free (only when nobody knows the model's size). `assess`
gives one verdict per neuron; `choose` takes the best; both the loop and `GET /fleet/placement` use them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Literal

from msgspec import Struct

from cortex.config.settings import EvictionConfig
from cortex.gateway.neurons.fleet import Neuron
from cortex.gateway.scheduling.evictor import Candidate, Claim, When, allowed, pick_victims, rank
from cortex.wire.fleet import DevicePlan, NeuronPlan
from cortex.wire.status import DeviceStatus, ModelStatus

__all__ = ["Room", "Site", "Verdict", "assess", "choose", "free_bytes"]

Kind = Literal["loaded", "loading", "fits", "fits_by_evicting", "busy", "refused"]

_MOST_COMBINATIONS = 8
"""Devices considered together when several are needed; beyond it only the emptiest are tried."""


class Site(Struct, frozen=True):
    """A neuron as placement sees it: `free` bytes by device, what lives there, and whether an order is unanswered
    (its effect isn't in the status yet, so nothing can be decided on it). `fresh`: the model has just become ready
    there, so that no heartbeat may have proved it yet."""

    neuron: Neuron
    free: dict[str, int]
    residents: list[Candidate] = []
    ordered: bool = False
    fresh: bool = False
    failed: str = ""


class Room(Struct, frozen=True):
    """What the model needs: `count` devices with `bytes` each (0 = unknown)."""

    bytes: int
    count: int
    min_device_bytes: int = 0

    @classmethod
    def of(cls, status: ModelStatus) -> Room:
        count = max(status.card.min_devices, 1)
        return cls(status.estimate_bytes or status.card.size_bytes // count, count, status.card.min_device_bytes)


class Verdict(Struct, frozen=True):
    """`close` are models that have had their turn and should get no new requests; `for_good`: waiting won't help."""

    neuron: str
    kind: Kind
    reason: str
    devices: tuple[str, ...] = ()
    evict: tuple[str, ...] = ()
    close: tuple[str, ...] = ()
    for_good: bool = False
    cost_s: float = 0.0
    spare_bytes: int = 0
    plans: tuple[DevicePlan, ...] = ()

    def report(self, chosen: bool = False) -> NeuronPlan:
        return NeuronPlan(self.neuron, self.kind, self.reason, list(self.plans), list(self.evict), chosen)


def free_bytes(device: DeviceStatus, promised: int = 0) -> int:
    """What may still be given away. On a GPU, memory that others use is gone; a CPU device is a budget of cortex's own,
    of which the ledger alone knows what is left."""
    taken = device.reserved_bytes if device.kind == "cpu" else max(device.used_bytes, device.reserved_bytes)
    return max(0, device.budget_bytes - taken - promised)


def assess(site: Site, claim: Claim, rules: EvictionConfig, now: float) -> Verdict:
    """1. Not reachable or not allowed. 2. Already there. 3. Devices that could ever hold it. 4. Fits free. 5. Fits by
    evicting. 6. Would fit once the busy ones are done. 7. Not as things are."""
    neuron, status = site.neuron, site.neuron.model(claim.model)
    if status is None:
        known = neuron.status is not None
        return _refused(neuron, "the model isn't in its catalogue" if known else _absence(neuron))
    if blocked := _not_here(site, status):  # 1
        return blocked
    if status.state in ("ready", "loading"):  # 2
        return Verdict(neuron.name, "loaded" if status.state == "ready" else "loading", f"already {status.state}")
    room = Room.of(status)
    devices = _capable(neuron, room)  # 3
    if len(devices) < room.count:
        return _refused(neuron, _too_small(neuron, room), _plans(site, room))
    if site.ordered:
        return Verdict(neuron.name, "busy", "an earlier order is still being carried out", plans=_plans(site, room))
    assessments = {resident.model: allowed(resident, claim, rules, now) for resident in site.residents}
    return _fit(site, room, devices, assessments, rules)


def choose(assessments: Sequence[Verdict]) -> Verdict | None:
    """The neuron to load on: a free fit with the most room to spare, else the cheapest eviction."""
    free = [verdict for verdict in assessments if verdict.kind == "fits"]
    if free:
        return max(free, key=lambda verdict: verdict.spare_bytes)
    evicting = [verdict for verdict in assessments if verdict.kind == "fits_by_evicting"]
    return min(evicting, key=lambda verdict: (verdict.cost_s, -verdict.spare_bytes), default=None)


def _plans(site: Site, room: Room) -> tuple[DevicePlan, ...]:
    return tuple(
        DevicePlan(device.id, room.bytes, site.free.get(device.id, 0), device.budget_bytes)
        for device in _devices(site.neuron)
    )


def _not_here(site: Site, status: ModelStatus) -> Verdict | None:
    neuron, card = site.neuron, status.card
    if not card.available:
        return _refused(neuron, card.problem or "the model's file isn't usable")
    if card.pinned_on and neuron.name not in card.pinned_on:
        return _refused(neuron, f"pinned_on allows {', '.join(card.pinned_on)} only")
    if neuron.suspect:
        return Verdict(
            neuron.name, "busy", "it broke off a request, or has yet to get its profiles, and is being looked at"
        )
    if not neuron.takes_orders():
        return Verdict(neuron.name, "refused", _absence(neuron))
    if status.state == "ready" and not status.servable and not site.fresh:
        return Verdict(neuron.name, "refused", "it is loaded there but can't decode")
    if site.failed:
        return Verdict(neuron.name, "refused", f"the last load failed: {site.failed}")
    if status.state == "unloading":
        return Verdict(neuron.name, "busy", "it is being unloaded")
    return None


def _absence(neuron: Neuron) -> str:
    if neuron.drained or (neuron.status and neuron.status.state == "draining" and neuron.health != "down"):
        return "draining"
    return f"{neuron.health}: {neuron.ailment}"


def _capable(neuron: Neuron, room: Room) -> list[DeviceStatus]:
    return [
        device
        for device in _devices(neuron)
        if device.healthy and device.budget_bytes >= room.bytes and device.total_bytes >= room.min_device_bytes
    ]


def _too_small(neuron: Neuron, room: Room) -> str:
    largest = max((device.budget_bytes for device in _devices(neuron)), default=0)
    floor = f" on a device of at least {_mib(room.min_device_bytes)}" if room.min_device_bytes else ""
    return (
        f"needs {room.count} device(s) with {_mib(room.bytes)} each{floor}; "
        f"it has {len(_devices(neuron))}, the largest with {_mib(largest)}"
    )


def _fit(
    site: Site, room: Room, devices: list[DeviceStatus], assessments: dict[str, When], rules: EvictionConfig
) -> Verdict:
    name, plans = site.neuron.name, _plans(site, room)
    by_free = sorted((device.id for device in devices), key=lambda id_: -site.free[id_])
    if room.bytes == 0 or site.free[by_free[room.count - 1]] >= room.bytes:  # 4
        taken = tuple(by_free[: room.count])
        spare = min(site.free[id_] for id_ in taken) - room.bytes
        return Verdict(name, "fits", "fits in free memory", taken, spare_bytes=spare, plans=plans)
    cheapest = _cheapest(site, room, by_free, rules, lambda c: assessments[c.model] is When.NOW)  # 5
    if cheapest:
        taken, victims = cheapest
        names = tuple(victim.model for victim in victims)
        cost = sum(victim.load_s or 0.0 for victim in victims)
        reason = f"fits after evicting {', '.join(names)}"
        return Verdict(name, "fits_by_evicting", reason, taken, names, cost_s=cost, plans=plans)
    cheapest = _cheapest(site, room, by_free, rules, lambda c: assessments[c.model] is not When.NEVER)  # 6
    if cheapest:
        victims = cheapest[1]
        close = tuple(victim.model for victim in victims if assessments[victim.model] in (When.CLOSE, When.NOW))
        ripe = len(close) == len(victims)
        reason = f"waits for {', '.join(victim.model for victim in victims)}"
        return Verdict(name, "busy", reason, close=close if ripe else (), plans=plans)
    kept = any(when is When.NEVER for when in assessments.values())
    return Verdict(name, "refused", _occupied(site, room, assessments), for_good=kept, plans=plans)  # 7


def _cheapest(
    site: Site, room: Room, by_free: list[str], rules: EvictionConfig, may_go: Callable[[Candidate], bool]
) -> tuple[tuple[str, ...], list[Candidate]] | None:
    """The devices, and the models to evict from them, that cost least to load again."""
    candidates = [resident for resident in site.residents if may_go(resident)]
    options = []
    for taken in combinations(by_free[:_MOST_COMBINATIONS] if room.count > 1 else by_free, room.count):
        shortfall = {id_: room.bytes - site.free[id_] for id_ in taken if site.free[id_] < room.bytes}
        victims = pick_victims(shortfall, candidates, lambda candidate: rank(candidate, rules))
        if victims is not None:
            options.append((taken, victims))
    return min(options, key=lambda option: _dearness(option[1], rules), default=None)


def _dearness(victims: list[Candidate], rules: EvictionConfig) -> tuple[object, ...]:
    """Compares sets of victims by the one that would be missed most."""
    return (max((rank(victim, rules) for victim in victims), default=()), len(victims))


def _occupied(site: Site, room: Room, assessments: dict[str, When]) -> str:
    keepers = [
        f"{resident.model} is pinned" if resident.pinned else f"{resident.model} has a higher residency priority"
        for resident in site.residents
        if assessments[resident.model] is When.NEVER
    ]
    if not keepers:
        return f"needs {_mib(room.bytes)}, and memory that cortex doesn't own is in use"
    return f"needs {_mib(room.bytes)}, and {', '.join(keepers)}"


def _refused(neuron: Neuron, reason: str, plans: tuple[DevicePlan, ...] = ()) -> Verdict:
    return Verdict(neuron.name, "refused", reason, for_good=True, plans=plans)


def _devices(neuron: Neuron) -> list[DeviceStatus]:
    return neuron.status.devices if neuron.status else []


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
