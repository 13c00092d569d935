"""Where a model goes, on described hosts: bytes decide, and every refusal says why."""

from __future__ import annotations

import pytest
from msgspec import structs

from cortex.config.settings import EvictionConfig
from cortex.gateway.neurons.fleet import Neuron
from cortex.gateway.report import placement_plan
from cortex.gateway.scheduling.evictor import Candidate, Claim
from cortex.gateway.scheduling.placement import Site, Verdict, assess, choose, free_bytes
from cortex.wire.status import DeviceStatus, Limits, ModelCard, ModelStatus, NeuronStatus

GB = 10**9
RULES = EvictionConfig(min_residency_s=10.0)


def device(name: str, total: int, used: int = 0, reserved: int = 0, **fields: object) -> DeviceStatus:
    return DeviceStatus(
        name, "cuda", name, name, total * GB, (total - used) * GB, total * GB, used * GB, reserved * GB, **fields
    )  # type: ignore[arg-type]


def host(
    name: str, devices: list[DeviceStatus], residents: list[Candidate] | None = None, **card: object
) -> tuple[Site, Neuron]:
    """A neuron that knows model "m" of 20 GB."""
    described = ModelCard("m", Limits(4096), size_bytes=18 * GB, **card)  # type: ignore[arg-type]
    status = ModelStatus(described, estimate_bytes=20 * GB)
    document = NeuronStatus(name, "0", "boot", 1, "ready", devices, [], [status])
    neuron = Neuron(name, f"http://{name}", status=document)
    return Site(neuron, {d.id: free_bytes(d) for d in devices}, residents or []), neuron


def resident(model: str, device_: str, gigabytes: int, **fields: object) -> Candidate:
    given = {"loaded_at": 0.0, "used_at": 0.0, "load_s": 1.0, **fields}
    return Candidate(model, {device_: gigabytes * GB}, **given)  # type: ignore[arg-type]


def verdict(site: Site, **claim: float) -> Verdict:
    return assess(site, Claim("m", int(claim.get("priority", 100)), claim.get("waited_s", 0.0)), RULES, 100.0)


def test_the_emptiest_device_is_taken() -> None:
    site, _ = host("h", [device("gpu0", 24), device("gpu1", 80), device("gpu2", 48)])
    assert verdict(site).devices == ("gpu1",)


def test_memory_that_others_use_is_not_given_away() -> None:
    site, _ = host("h", [device("gpu0", 24, used=10), device("gpu1", 22)])
    assert verdict(site).devices == ("gpu1",)


def test_a_cpu_budget_is_what_its_ledger_says() -> None:
    cpu = DeviceStatus("cpu0", "cpu", "cpu0", "cpu0", 100, 10, 100, used_bytes=90, reserved_bytes=30)
    assert free_bytes(cpu) == 70
    assert free_bytes(cpu, promised=50) == 20


def test_several_devices_are_taken_where_the_profile_wants_them() -> None:
    site, _ = host("h", [device("gpu0", 24), device("gpu1", 24), device("gpu2", 10)], min_devices=2)
    assert sorted(verdict(site).devices) == ["gpu0", "gpu1"]


def test_too_few_devices_are_counted_for_the_operator() -> None:
    site, _ = host("h", [device("gpu0", 24), device("gpu1", 10)], min_devices=2)
    refused = verdict(site)
    assert (refused.kind, refused.for_good) == ("refused", True)
    assert "needs 2 device(s)" in refused.reason


def test_small_devices_are_left_out_by_the_profiles_floor() -> None:
    site, _ = host("h", [device("gpu0", 24)], min_device_bytes=40 * GB)
    assert "at least" in verdict(site).reason


def test_an_affinity_names_the_hosts_it_allows() -> None:
    site, _ = host("h", [device("gpu0", 80)], pinned_on=["beast"])
    assert verdict(site).reason == "pinned_on allows beast only"
    beast, _ = host("beast", [device("gpu0", 80)], pinned_on=["beast"])
    assert verdict(beast).kind == "fits"


def test_the_cheaper_device_to_clear_is_cleared() -> None:
    devices = [device("gpu0", 24, 20, 20), device("gpu1", 24, 20, 20)]
    site, _ = host("h", devices, [resident("hot", "gpu0", 20, used_at=99.0), resident("cold", "gpu1", 20, used_at=1.0)])
    chosen = verdict(site)
    assert (chosen.kind, chosen.devices, chosen.evict) == ("fits_by_evicting", ("gpu1",), ("cold",))


def test_a_busy_device_is_passed_over_for_an_idle_one() -> None:
    devices = [device("gpu0", 24, 20, 20), device("gpu1", 24, 20, 20)]
    site, _ = host("h", devices, [resident("busy", "gpu0", 20, busy=True), resident("idle", "gpu1", 20, used_at=99.0)])
    assert verdict(site).evict == ("idle",)


def test_only_busy_models_in_the_way_mean_waiting() -> None:
    site, _ = host("h", [device("gpu0", 24, 20, 20)], [resident("busy", "gpu0", 20, busy=True)])
    assert (verdict(site).kind, verdict(site).close) == ("busy", ())
    assert verdict(site, waited_s=60.0).close == ("busy",)


def test_pins_in_the_way_are_named() -> None:
    site, _ = host("h", [device("gpu0", 24, 20, 20)], [resident("kept", "gpu0", 20, pinned=True)])
    refused = verdict(site)
    assert refused.for_good
    assert "kept is pinned" in refused.reason


def test_foreign_memory_in_the_way_may_go_away() -> None:
    site, _ = host("h", [device("gpu0", 24, used=20)])
    refused = verdict(site)
    assert (refused.kind, refused.for_good) == ("refused", False)
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
    assert verdict(away).reason == reason


def test_a_neuron_that_never_answered_is_not_blamed_for_its_catalogue() -> None:
    never = Neuron("ghost", "http://ghost", lost_at=1.0, reason="connection refused")
    assert verdict(Site(never, {}, [])).reason == "down: connection refused"


def test_free_memory_beats_eviction_and_the_most_of_it_wins() -> None:
    full, _ = host("full", [device("gpu0", 24, 20, 20)], [resident("x", "gpu0", 20)])
    tight, _ = host("tight", [device("gpu0", 24)])
    roomy, _ = host("roomy", [device("gpu0", 80)])
    chosen = choose([verdict(full), verdict(tight), verdict(roomy)])
    assert chosen is not None
    assert chosen.neuron == "roomy"


def test_the_plan_for_people_explains_every_neuron() -> None:
    full, _ = host("full", [device("gpu0", 24, 20, 20)], [resident("x", "gpu0", 20)])
    small, _ = host("small", [device("gpu0", 8)])
    plan = placement_plan("m", [verdict(full), verdict(small)])
    assert plan.summary == "m would be loaded on full after evicting x"
    assert [(neuron.neuron, neuron.chosen) for neuron in plan.neurons] == [("full", True), ("small", False)]
    assert plan.neurons[0].devices[0].needed_bytes == 20 * GB
