"""What holds for every decision, whatever stands on the devices and whoever asks."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import chain, combinations

from hypothesis import event, given, settings
from hypothesis import strategies as st
from msgspec import structs

from cortex.config.settings import EvictionConfig
from cortex.placement.decision import Evict, Place, Refuse, Wait, decide
from cortex.placement.facts import Claim, DeviceMemory, DeviceSet, NeuronMemory, Resident
from cortex.placement.residency import When, when_evictable

NOW = 1000.0
SIZES = st.integers(1, 60)
SELDOM = st.sampled_from([False] * 5 + [True])
MANY = settings(max_examples=300, deadline=None)

devices = st.tuples(
    *(
        st.builds(
            DeviceMemory,
            id=st.just(name),
            budget_bytes=st.just(100),
            foreign_bytes=st.sampled_from([0, 0, 10, 40]),
            promised_bytes=st.sampled_from([0, 0, 20]),
            freed_at=st.sampled_from([None, NOW - 1, NOW - 60]),
            healthy=st.sampled_from([True, True, True, False]),
        )
        for name in ("d0", "d1")
    )
)

residents = st.lists(
    st.builds(
        Resident,
        model=st.integers(0, 10**6).map(str),
        bytes_by_device=st.dictionaries(st.sampled_from(["d0", "d1"]), SIZES, min_size=1),
        loaded_at=st.floats(NOW - 100, NOW),
        used_at=st.floats(NOW - 100, NOW),
        priority=st.sampled_from([50, 100, 200]),
        load_s=st.none() | st.floats(0, 30),
        pinned=SELDOM,
        busy=st.sampled_from([False, False, True]),
        wanted=SELDOM,
        loading=SELDOM,
        leaving=SELDOM,
    ),
    max_size=6,
    unique_by=lambda resident: resident.model,
)

claims = st.builds(Claim, st.just("m"), st.sampled_from([100, 200]), st.floats(0, 80), st.booleans())
rules = st.builds(
    EvictionConfig,
    strategy=st.sampled_from(["lru", "priority"]),
    min_residency_s=st.sampled_from([0.0, 5.0]),
    starvation_s=st.sampled_from([20.0, 60.0]),
)


def sets_of(size: int) -> list[DeviceSet]:
    return [{"d0": size}, {"d1": size}, {"d0": (size + 1) // 2, "d1": (size + 1) // 2}]


def fits(wanted: DeviceSet, memory: NeuronMemory, there: Sequence[Resident]) -> bool:
    free, ill = memory.free_bytes(there), [device.id for device in memory.devices if not device.healthy]
    return all(device not in ill and free[device] >= size for device, size in wanted.items())


def subsets(items: Sequence[Resident]) -> list[tuple[Resident, ...]]:
    return list(chain.from_iterable(combinations(items, count) for count in range(len(items) + 1)))


@MANY
@given(devices, residents, SIZES, claims, rules)
def test_no_decision_overfills_a_device_or_harms_the_protected(
    on: tuple[DeviceMemory, ...], there: list[Resident], size: int, claim: Claim, config: EvictionConfig
) -> None:
    memory = NeuronMemory(on, there)
    decision = decide(claim, sets_of(size), memory, config, NOW)
    event(type(decision).__name__)
    if isinstance(decision, Place):
        assert fits(decision.bytes_by_device, memory, there)
    if isinstance(decision, Evict):
        victims = [resident for resident in there if resident.model in decision.models]
        assert claim.may_evict
        assert not any(each.pinned or each.busy or each.loading or each.leaving for each in victims)
        assert config.strategy == "lru" or all(each.priority <= claim.priority for each in victims)
    if isinstance(decision, Wait):
        closed = [resident for resident in there if resident.model in decision.close]
        assert not any(each.pinned or each.loading or each.leaving for each in closed)


@MANY
@given(devices, residents, SIZES, claims, rules)
def test_victims_are_enough_and_none_is_superfluous(
    on: tuple[DeviceMemory, ...], there: list[Resident], size: int, claim: Claim, config: EvictionConfig
) -> None:
    memory = NeuronMemory(on, there)
    decision = decide(claim, sets_of(size), memory, config, NOW)
    if not isinstance(decision, Evict):
        return
    staying = [resident for resident in there if not resident.leaving]
    rest = [resident for resident in staying if resident.model not in decision.models]
    assert fits(decision.bytes_by_device, memory, rest)
    for victim in (resident for resident in staying if resident.model in decision.models):
        assert not fits(decision.bytes_by_device, memory, [*rest, victim])


@MANY
@given(devices, residents, SIZES, claims, rules)
def test_whoever_can_be_helped_is(
    on: tuple[DeviceMemory, ...], there: list[Resident], size: int, claim: Claim, config: EvictionConfig
) -> None:
    """Against all subsets of residents: a free set is never passed over, nor a set that some evictions would free, and
    a refusal means that not even all unprotected models together would make room."""
    memory, sets = NeuronMemory(on, there), sets_of(size)
    decision = decide(claim, sets, memory, config, NOW)
    staying = [resident for resident in there if not resident.leaving]
    when = {resident.model: when_evictable(resident, claim, config, NOW) for resident in staying}
    free_now = any(fits(wanted, memory, there) for wanted in sets)
    assert isinstance(decision, Place) == free_now
    if free_now or any(fits(wanted, memory, staying) for wanted in sets):
        assert isinstance(decision, Place | Wait)
        return
    ready = [resident for resident in staying if when[resident.model] is When.NOW]
    helped = any(
        fits(wanted, memory, [r for r in staying if r not in gone]) for wanted in sets for gone in subsets(ready)
    )
    if isinstance(decision, Evict):
        assert helped
    if helped and claim.may_evict:
        assert not isinstance(decision, Refuse)
    if isinstance(decision, Refuse) and claim.may_evict:
        kept = [resident for resident in staying if when[resident.model] is When.NEVER]
        assert not any(fits(wanted, memory, kept) for wanted in sets)
        assert decision.permanent == bool(kept)


class Neuron:
    """One neuron over time. Models that aren't closed are in use but for pauses, `pause` of the time."""

    def __init__(self, memory: NeuronMemory, pause: float, seed: int) -> None:
        self.memory = memory
        self.pause = pause
        self.chance = random.Random(seed)
        self.closed: tuple[str, ...] = ()

    def second(self, now: float) -> None:
        """What leaves is gone, loads end, requests end and begin."""
        there = [self._after(resident, now) for resident in self.memory.residents if not resident.leaving]
        self.memory = structs.replace(self.memory, residents=there)

    def _after(self, resident: Resident, now: float) -> Resident:
        if resident.loading:
            return structs.replace(resident, loading=False, loaded_at=now, used_at=now)
        if resident.model in self.closed:
            return structs.replace(resident, busy=False, used_at=now) if resident.busy else resident
        pauses = self.chance.random() < self.pause
        used = resident.used_at if pauses and not resident.busy else now
        return structs.replace(resident, busy=not pauses, wanted=False, used_at=used)

    def unload(self, models: Sequence[str]) -> None:
        there = [structs.replace(r, leaving=True) if r.model in models else r for r in self.memory.residents]
        self.memory = structs.replace(self.memory, residents=there)


@settings(deadline=None)
@given(devices, residents, SIZES, rules, st.tuples(st.sampled_from([0.0, 0.2, 0.5]), st.integers(0, 10**6)))
def test_no_claim_waits_for_ever(
    on: tuple[DeviceMemory, ...], there: list[Resident], size: int, config: EvictionConfig, life: tuple[float, int]
) -> None:
    """Beside models in constant use, one of which may be loading until the first second, a claim gets its memory within
    the starvation limit and the time that requests take to end, or is refused from the beginning."""
    neuron = Neuron(NeuronMemory(on, there), *life)
    refusable = True
    for passed in range(int(config.starvation_s) + 60):
        now = NOW + passed
        decision = decide(Claim("m", 100, float(passed)), sets_of(size), neuron.memory, config, now)
        match decision:
            case Place():
                return
            case Refuse():
                assert refusable, "it waited for what never comes"
                return
            case Evict(_, models):
                assert not any(r.busy or r.pinned for r in neuron.memory.residents if r.model in models)
                neuron.unload(models)
            case Wait():
                neuron.closed = decision.close
        # Only a wait for memory that was freed, or for a model that leaves, may turn out to have been in vain.
        refusable = (
            refusable and isinstance(decision, Wait) and (decision.until == now + 0.1 or "leave" in decision.reason)
        )
        neuron.second(now)
    raise AssertionError("it starved")
