"""What each neuron could do for a model: its last status and this gateway's own counts, translated for `placement`.

Pure. The scheduler takes the best assessment (`placement.plan.choose`); `GET /fleet/placement/{model}` shows them all.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from cortex.config.settings import EvictionConfig
from cortex.gateway.neurons.fleet import Neuron
from cortex.gateway.scheduling.state import State
from cortex.placement.decision import Refuse, Wait, decide
from cortex.placement.device_sets import uniform_sets
from cortex.placement.facts import Claim, DeviceMemory, NeuronMemory, Resident
from cortex.placement.plan import Assessment, Present
from cortex.placement.reasons import too_small
from cortex.wire.fleet import DevicePlan
from cortex.wire.status import DeviceStatus, ModelStatus

__all__ = ["Site", "assess", "assess_all", "device_memory", "resident_of"]

_PROOF_S = 10.0
"""A model is ready before a heartbeat says that it decodes. Taken for broken at once, it is loaded a second time: 160
mixed requests took 51 to 58 loads instead of 36 (tests/gateway/scheduling/test_storm.py)."""


class Site(Struct, frozen=True):
    """One neuron, as far as a model's placement there depends on it.

    `ordered`: an order is unanswered and its effect isn't in the status yet, so nothing can be decided. `fresh`: the
    model has just become ready there, and no heartbeat may have proved it yet. `failed`: why its last load failed.
    """

    neuron: Neuron
    memory: NeuronMemory
    ordered: bool = False
    fresh: bool = False
    failed: str = ""


def assess_all(state: State, model: str, now: float, *, may_evict: bool = True) -> list[Assessment]:
    """What each neuron could do for `model`, and why."""
    card, queue = state.card(model), state.queues.get(model)
    waited_s = queue.oldest_wait_s(now) if queue else 0.0
    claim = Claim(model, card.residency_priority if card else 100, waited_s, may_evict)
    return [assess(_site(state, neuron, model, now), claim, state.policy.eviction, now) for neuron in state.fleet]


def assess(site: Site, claim: Claim, rules: EvictionConfig, now: float) -> Assessment:
    """1. Not in its catalogue, not reachable, not allowed. 2. Already there. 3. No devices that could ever hold it.
    4. An order is unanswered. 5. By bytes: what `decide` says."""
    neuron, status = site.neuron, site.neuron.model(claim.model)
    if status is None:  # 1
        known = neuron.status is not None
        reason = "the model isn't in its catalogue" if known else _absence(neuron)
        return Assessment(neuron.name, Refuse(reason, permanent=True))
    if blocked := _not_here(site, status):
        return Assessment(neuron.name, blocked)
    if status.state in ("ready", "loading"):  # 2
        return Assessment(neuron.name, Present("ready" if status.state == "ready" else "loading"))
    count, size, floor = max(status.card.min_devices, 1), needed_bytes(status), status.card.min_device_bytes
    devices, free = site.memory.devices, site.memory.free_bytes()
    plans = tuple(DevicePlan(each.id, size, max(free[each.id], 0), each.budget_bytes) for each in devices)
    sets = uniform_sets(devices, free, count=count, size=size, min_device_bytes=floor)
    if not sets:  # 3
        reason = too_small(devices, count=count, size=size, min_device_bytes=floor)
        return Assessment(neuron.name, Refuse(reason, permanent=True), plans)
    if site.ordered:  # 4
        return Assessment(neuron.name, Wait("an earlier order is still being carried out"), plans)
    return Assessment(neuron.name, decide(claim, sets, site.memory, rules, now), plans)  # 5


def needed_bytes(status: ModelStatus) -> int:
    """What a load takes on each of its devices; 0 = nobody knows."""
    return status.estimate_bytes or status.card.size_bytes // max(status.card.min_devices, 1)


def _not_here(site: Site, status: ModelStatus) -> Wait | Refuse | None:
    """Why the neuron can't be asked to load the model at all."""
    neuron, card = site.neuron, status.card
    if not card.available:
        return Refuse(card.problem or "the model's file isn't usable", permanent=True)
    if card.pinned_on and neuron.name not in card.pinned_on:
        return Refuse(f"pinned_on allows {', '.join(card.pinned_on)} only", permanent=True)
    if neuron.suspect:
        return Wait("it broke off a request or hasn't got its profiles yet, and is being polled")
    if not neuron.takes_orders():
        return Refuse(_absence(neuron))
    if status.state == "ready" and not status.servable and not site.fresh:
        return Refuse("it is loaded there but can't decode")
    if site.failed:
        return Refuse(f"the last load failed: {site.failed}")
    if status.state == "unloading":
        return Wait("it is being unloaded")
    return None


def _absence(neuron: Neuron) -> str:
    if neuron.drained or (neuron.status and neuron.status.state == "draining" and neuron.health != "down"):
        return "draining"
    return f"{neuron.health}: {neuron.ailment}"


# ---- from statuses to facts


def _site(state: State, neuron: Neuron, model: str, now: float) -> Site:
    failure = state.orders.failure(neuron.name, model, now)
    return Site(
        neuron=neuron,
        memory=_memory(state, neuron),
        ordered=state.orders.unanswered(neuron),
        fresh=now - state.usage.loaded_at(neuron.name, model) < _PROOF_S,
        failed=failure.message if failure else "",
    )


def _memory(state: State, neuron: Neuron) -> NeuronMemory:
    if neuron.status is None:
        return NeuronMemory([])
    statuses = neuron.status.models
    residents = [resident_of(state, neuron, status) for status in statuses if status.devices or status.bytes]
    needed = {status.card.id: needed_bytes(status) for status in statuses}
    return NeuronMemory(
        [
            device_memory(device, residents, state.orders.promised(neuron, device.id, needed))
            for device in neuron.status.devices
        ],
        residents,
    )


def device_memory(device: DeviceStatus, residents: Sequence[Resident], promised: int = 0) -> DeviceMemory:
    """On a GPU, memory that others use is gone; a CPU device is a budget of cortex's own, of which the neuron's ledger
    alone knows what is left."""
    taken = device.reserved_bytes if device.kind == "cpu" else max(device.used_bytes, device.reserved_bytes)
    held = sum(resident.bytes_by_device.get(device.id, 0) for resident in residents)
    return DeviceMemory(
        id=device.id,
        budget_bytes=device.budget_bytes,
        total_bytes=device.total_bytes,
        foreign_bytes=max(taken - held, 0),
        promised_bytes=promised,
        healthy=device.healthy,
        health=device.health,
    )


def resident_of(state: State, neuron: Neuron, status: ModelStatus) -> Resident:
    """A copy of a model, with this gateway's own requests counted as of now and everybody else's as of the status."""
    model = status.card.id
    queue = state.queues.get(model)
    return Resident(
        model=model,
        bytes_by_device=_held(neuron, status),
        loaded_at=state.usage.loaded_at(neuron.name, model),
        used_at=state.usage.used_at(neuron.name, model),
        priority=status.card.residency_priority,
        load_s=state.usage.load_s(neuron.name, status),
        pinned=state.pinned(status),
        busy=state.running(neuron.name, model) > 0,
        wanted=bool(queue and queue.waiting),
        loading=status.state not in ("ready", "unloading"),
        leaving=status.state == "unloading" or state.orders.leaving(neuron.name, model),
    )


def _held(neuron: Neuron, status: ModelStatus) -> dict[str, int]:
    """Bytes by device as the ledger has them; those of a model that it doesn't know are spread evenly."""
    ledger = neuron.status.ledger if neuron.status else []
    lines = {line.device: line.bytes for line in ledger if line.model == status.card.id}
    return lines or {device: status.bytes // max(len(status.devices), 1) for device in status.devices}
