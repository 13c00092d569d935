"""A neuron and a gateway that knows it by its status documents alone decide the same for the same model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import event, given, settings
from hypothesis import strategies as st
from msgspec import Struct, structs

from cortex.config.profiles import Profile
from cortex.config.settings import Config, EvictionConfig, NeuronEntry
from cortex.gateway.scheduling.assessments import assess_all
from cortex.gateway.scheduling.effects import Job
from cortex.gateway.scheduling.model_queue import Ticket
from cortex.gateway.scheduling.policy import Policy
from cortex.gateway.scheduling.scheduler import Scheduler
from cortex.neuron.api.report import model_status
from cortex.neuron.catalog.entry import Entry
from cortex.neuron.catalog.gguf_header import read_header
from cortex.neuron.devices.devices import Device
from cortex.neuron.memory.ledger import Measurements
from cortex.neuron.models.card import card_of
from cortex.neuron.models.load_queue import LoadQueue
from cortex.neuron.models.registry import ModelRegistry
from cortex.neuron.models.state import Loading, ManagedModel
from cortex.placement.decision import Decision, Refuse
from cortex.wire.status import DeviceStatus, ModelState, NeuronStatus
from tests.fake_neuron import ManualClock, chat
from tests.neuron.gguf_files import write_gguf

BUDGET, NOW = 100, 1000.0

with TemporaryDirectory() as directory:
    HEADER = read_header(write_gguf(Path(directory) / "m.gguf"))


class Fact(Struct, frozen=True):
    """A model on the neuron, as both roles are to see it."""

    bytes_by_device: dict[str, int]
    loaded_s: int
    idle_s: int
    load_s: float | None
    priority: int
    pinned: bool
    running: int
    state: ModelState


facts = st.lists(
    st.builds(
        Fact,
        bytes_by_device=st.dictionaries(st.sampled_from(["gpu0", "gpu1"]), st.integers(1, 60), min_size=1),
        loaded_s=st.integers(1, 90),
        idle_s=st.integers(0, 90),
        load_s=st.none() | st.floats(0, 20),
        priority=st.sampled_from([50, 100, 200]),
        pinned=st.sampled_from([False] * 4 + [True]),
        running=st.sampled_from([0, 0, 0, 2]),
        state=st.sampled_from(["ready"] * 6 + ["loading", "unloading"]),
    ),
    max_size=5,
)


class Gpus:
    """Two devices on which others hold `foreign` bytes; the second may be ill."""

    def __init__(self, foreign: tuple[int, int], *, ill: bool) -> None:
        self.devices = [Device(f"gpu{index}", "cuda", f"gpu{index}", BUDGET) for index in range(2)]
        self.foreign = dict(zip(["gpu0", "gpu1"], foreign, strict=True))
        self.ill = ["gpu1"] if ill else []
        self.held = {"gpu0": 0, "gpu1": 0}

    def read(self) -> list[DeviceStatus]:
        return [self._status(device.id) for device in self.devices]

    def process_bytes(self, device: str) -> dict[int, int]:
        return {}

    def foreign_bytes(self, device: str, held: int) -> int:
        return max(self._used(device) - held, 0)

    def _used(self, device: str) -> int:
        return self.foreign[device] + self.held[device]

    def _status(self, device: str) -> DeviceStatus:
        used = self._used(device)
        return DeviceStatus(
            device, "cuda", device, device, 110, 110 - used, BUDGET, used, healthy=device not in self.ill
        )


class Both:
    """A neuron's registry with `facts` in it, and a gateway's scheduler that saw each of them come."""

    def __init__(self, gpus: Gpus, config: EvictionConfig, size: int, count: int) -> None:
        self.clock = ManualClock(NOW - 100)
        self.gpus = gpus
        self.registry = ModelRegistry(Config(eviction=config), gpus, self.clock, Measurements(Path("/none")), "build")
        self.registry.planner.sizes = lambda _entry, _context, group: [size] * len(group)  # type: ignore[method-assign]
        profile = Profile("m", context=256, min_devices=count)
        entry = Entry("m", profile, header=HEADER)
        self.registry.models["m"] = ManagedModel(entry, card_of(entry))
        self.registry.update_card(self.registry.models["m"])
        self.gateway = Scheduler(Policy(eviction=config), [NeuronEntry(name="n", endpoint="http://n")])
        self.poll()

    def load(self, model: str, fact: Fact) -> None:
        self.clock.now = NOW - fact.loaded_s
        profile = Profile(model, pinned=fact.pinned, residency_priority=fact.priority)
        entry = Entry(model, profile)
        managed = self.registry.models[model] = ManagedModel(entry, card_of(entry), state="ready")
        managed.bytes_by_device = fact.bytes_by_device
        managed.load_seconds, managed.servable = fact.load_s, True
        managed.loaded_at = managed.last_used_at = self.clock()
        self.registry.ledger.reserve(model, fact.bytes_by_device)
        for device, held in fact.bytes_by_device.items():
            self.gpus.held[device] += held
        self.poll()

    def settle(self, model: str, fact: Fact) -> None:
        """As things are at NOW."""
        managed = self.registry.models[model]
        managed.state, managed.running = fact.state, fact.running
        managed.last_used_at = NOW if fact.running else max(NOW - fact.idle_s, managed.loaded_at)

    def poll(self) -> None:
        ledger, now = self.registry.ledger, self.clock()
        devices = [structs.replace(each, reserved_bytes=ledger.held(each.id)) for each in self.gpus.read()]
        models = [model_status(managed, self.registry) for managed in self.registry.models.values()]
        status = NeuronStatus(
            "n", "0", "boot", self.registry.revision, "ready", devices, [], models, [], ledger.lines()
        )
        self.gateway._replace(self.gateway.state.fleet.neurons["n"].seen(status, now), now)

    def decisions(self, waited_s: int) -> tuple[Decision, object]:
        """The neuron's and the gateway's."""
        self.clock.now = NOW
        self.poll()
        asked_at = NOW - waited_s
        _, own = LoadQueue(self.registry)._choose(Loading("m", asked_at), self.registry.models["m"])
        self.gateway.state.queue("m").join(Ticket(Job("j", "m", asked_at, chat("m")), asked_at))
        (assessment,) = assess_all(self.gateway.state, "m", NOW)
        return own, assessment.decision


@settings(max_examples=300, deadline=None)
@given(
    facts,
    st.builds(Gpus, st.tuples(*[st.sampled_from([0, 0, 30])] * 2), ill=st.sampled_from([False, False, True])),
    st.builds(
        EvictionConfig,
        strategy=st.sampled_from(["lru", "priority"]),
        min_residency_s=st.sampled_from([0.0, 10.0]),
        starvation_s=st.sampled_from([20.0, 60.0]),
    ),
    st.tuples(st.integers(1, 110), st.integers(1, 2)),
    st.integers(0, 80),
)
def test_the_same_facts_lead_both_roles_to_the_same_decision(
    there: Sequence[Fact], gpus: Gpus, config: EvictionConfig, need: tuple[int, int], waited_s: int
) -> None:
    """Where it goes, who must leave, whom to wait for, whom to close, until when. A refusal has each role's words."""
    both = Both(gpus, config, *need)
    models = {f"r{number}": fact for number, fact in enumerate(there)}
    for model, fact in sorted(models.items(), key=lambda item: -item[1].loaded_s):
        both.load(model, fact)
    for model, fact in models.items():
        both.settle(model, fact)
    own, gateways = both.decisions(waited_s)
    event(type(own).__name__)
    if isinstance(own, Refuse):
        assert isinstance(gateways, Refuse)
    else:
        assert gateways == own
