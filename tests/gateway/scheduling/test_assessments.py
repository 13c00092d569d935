"""What neurons could do for a model, by their status documents: bytes decide, and every refusal says why."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec import structs

from cortex.config.settings import EvictionConfig
from cortex.gateway.neurons.fleet import Neuron
from cortex.gateway.scheduling.assessments import Site, assess, device_memory
from cortex.placement.decision import Evict, Place, Refuse, Wait
from cortex.placement.facts import Claim, NeuronMemory, Resident
from cortex.placement.plan import Assessment
from cortex.wire.fleet import DevicePlan
from cortex.wire.status import DeviceStatus, Limits, ModelCard, ModelStatus, NeuronStatus

GB = 10**9
RULES = EvictionConfig(min_residency_s=10.0)


def device(name: str, total: int, used: int = 0, reserved: int = 0, **fields: object) -> DeviceStatus:
    return DeviceStatus(
        name, "cuda", name, name, total * GB, (total - used) * GB, total * GB, used * GB, reserved * GB, **fields
    )  # type: ignore[arg-type]


def host(
    name: str, devices: list[DeviceStatus], residents: Sequence[Resident] = (), **card: object
) -> tuple[Site, Neuron]:
    """A neuron that knows model "m" of 20 GB."""
    described = ModelCard("m", Limits(4096), size_bytes=18 * GB, **card)  # type: ignore[arg-type]
    status = ModelStatus(described, estimate_bytes=20 * GB)
    document = NeuronStatus(name, "0", "boot", 1, "ready", devices, [], [status])
    neuron = Neuron(name, f"http://{name}", status=document)
    return Site(neuron, NeuronMemory([device_memory(d, residents) for d in devices], residents)), neuron


def resident(model: str, device_: str, gigabytes: int, **fields: object) -> Resident:
    return Resident(model, {device_: gigabytes * GB}, load_s=1.0, **fields)  # type: ignore[arg-type]


def assessed(site: Site, **claim: float) -> Assessment:
    return assess(site, Claim("m", int(claim.get("priority", 100)), claim.get("waited_s", 0.0)), RULES, 100.0)


def test_the_emptiest_device_is_taken() -> None:
    site, _ = host("h", [device("gpu0", 24), device("gpu1", 80), device("gpu2", 48)])
    assert assessed(site).devices == ("gpu1",)


def test_memory_that_others_use_is_not_given_away() -> None:
    site, _ = host("h", [device("gpu0", 24, used=10), device("gpu1", 22)])
    assert assessed(site).devices == ("gpu1",)


def test_a_cpu_budget_is_what_its_ledger_says() -> None:
    cpu = DeviceStatus("cpu0", "cpu", "cpu0", "cpu0", 100, 10, 100, used_bytes=90, reserved_bytes=30)
    assert NeuronMemory([device_memory(cpu, [])]).free_bytes() == {"cpu0": 70}
    assert NeuronMemory([device_memory(cpu, [], promised=50)]).free_bytes() == {"cpu0": 20}


def test_several_devices_are_taken_where_the_profile_wants_them() -> None:
    site, _ = host("h", [device("gpu0", 24), device("gpu1", 24), device("gpu2", 10)], min_devices=2)
    assert sorted(assessed(site).devices) == ["gpu0", "gpu1"]


def test_too_few_devices_are_counted_for_the_operator() -> None:
    site, _ = host("h", [device("gpu0", 24), device("gpu1", 10)], min_devices=2)
    refused = assessed(site).decision
    assert isinstance(refused, Refuse)
    assert refused.permanent
    assert "needs 2 device(s)" in refused.reason


def test_small_devices_are_left_out_by_the_profiles_floor() -> None:
    site, _ = host("h", [device("gpu0", 24)], min_device_bytes=40 * GB)
    assert "at least" in assessed(site).reason


def test_an_affinity_names_the_hosts_it_allows() -> None:
    site, _ = host("h", [device("gpu0", 80)], pinned_on=["beast"])
    assert assessed(site).reason == "pinned_on allows beast only"
    beast, _ = host("beast", [device("gpu0", 80)], pinned_on=["beast"])
    assert isinstance(assessed(beast).decision, Place)


def test_the_cheaper_device_to_clear_is_cleared() -> None:
    devices = [device("gpu0", 24, 20, 20), device("gpu1", 24, 20, 20)]
    site, _ = host("h", devices, [resident("hot", "gpu0", 20, used_at=99.0), resident("cold", "gpu1", 20, used_at=1.0)])
    chosen = assessed(site)
    assert isinstance(chosen.decision, Evict)
    assert (chosen.devices, chosen.evict) == (("gpu1",), ("cold",))


def test_a_busy_device_is_passed_over_for_an_idle_one() -> None:
    devices = [device("gpu0", 24, 20, 20), device("gpu1", 24, 20, 20)]
    site, _ = host("h", devices, [resident("busy", "gpu0", 20, busy=True), resident("idle", "gpu1", 20, used_at=99.0)])
    assert assessed(site).evict == ("idle",)


def test_only_busy_models_in_the_way_mean_waiting() -> None:
    site, _ = host("h", [device("gpu0", 24, 20, 20)], [resident("busy", "gpu0", 20, busy=True)])
    waiting, late = assessed(site).decision, assessed(site, waited_s=60.0).decision
    assert isinstance(waiting, Wait)
    assert waiting.close == ()
    assert isinstance(late, Wait)
    assert late.close == ("busy",)


def test_pins_in_the_way_are_named() -> None:
    site, _ = host("h", [device("gpu0", 24, 20, 20)], [resident("kept", "gpu0", 20, pinned=True)])
    refused = assessed(site).decision
    assert isinstance(refused, Refuse)
    assert refused.permanent
    assert "kept is pinned" in refused.reason


def test_foreign_memory_in_the_way_may_go_away() -> None:
    site, _ = host("h", [device("gpu0", 24, used=20)])
    refused = assessed(site).decision
    assert isinstance(refused, Refuse)
    assert not refused.permanent
    assert "doesn't own" in refused.reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"drained": True}, "draining"),
        ({"lost_at": 1.0, "reason": "no route"}, "down: no route"),
    ],
)
def test_neurons_that_take_no_orders_say_why(change: dict[str, object], reason: str) -> None:
    site, neuron = host("h", [device("gpu0", 80)])
    away = structs.replace(site, neuron=structs.replace(neuron, **change))
    assert assessed(away).reason == reason


def test_a_neuron_that_never_answered_is_not_blamed_for_its_catalogue() -> None:
    never = Neuron("ghost", "http://ghost", lost_at=1.0, reason="connection refused")
    assert assessed(Site(never, NeuronMemory([]))).reason == "down: connection refused"


def test_the_bytes_of_every_device_are_told() -> None:
    site, _ = host("full", [device("gpu0", 24, 22, 20)], [resident("x", "gpu0", 20)])
    assert assessed(site).plans == (DevicePlan("gpu0", 20 * GB, 2 * GB, 24 * GB),)


def test_a_copy_that_leaves_is_waited_for_rather_than_another_evicted() -> None:
    leaving, idle = resident("leaving", "gpu0", 20, leaving=True), resident("idle", "gpu1", 20)
    site, _ = host("h", [device("gpu0", 24, 20, 20), device("gpu1", 24, 20, 20)], [leaving, idle])
    assert assessed(site).decision == Wait("waits for leaving to leave", ("leaving",))


def test_a_device_that_is_ill_is_named() -> None:
    site, _ = host("h", [device("gpu0", 80, healthy=False, health="Xid 79"), device("gpu1", 10)])
    assert "gpu0 is unhealthy (Xid 79)" in assessed(site).reason
