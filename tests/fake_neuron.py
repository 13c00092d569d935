"""A neuron in memory, and a clock moved by hand.

FakeNeuron behaves as a gateway may expect of a neuron (revisions, conflicts, a ledger, a new boot id at each start) and
asserts that the gateway never orders what must not happen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import count

import msgspec

from cortex.errors import Conflict, ModelLoadFailed, ModelNotFound, NoRoom
from cortex.wire.events import ChoiceFinished, Event, Finished, Started, TextDelta, Tokens, Usage
from cortex.wire.inference import InferenceRequest, Message, Request, Sampling, Text
from cortex.wire.status import (
    Capabilities,
    DeviceStatus,
    Limits,
    LoadOrder,
    ModelCard,
    ModelState,
    ModelStatus,
    NeuronStatus,
    ProfilesMark,
    ProfilesOrder,
    Reservation,
    UnloadOrder,
)

__all__ = ["FakeModel", "FakeNeuron", "ManualClock", "chat", "words"]

MIB = 2**20

Script = Callable[[Request], Sequence[list[Event]]]


class ManualClock:
    """A clock in seconds that only `advance` moves."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> float:
        self.now += seconds
        return self.now


def chat(
    model: str = "a",
    text: str = "hi",
    *,
    job_id: str = "r1",
    principal: str | None = None,
    temperature: float | None = None,
) -> InferenceRequest:
    """A short chat request."""
    return InferenceRequest(
        id=job_id,
        model=model,
        messages=[Message("user", [Text(text)])],
        principal=principal,
        sampling=Sampling(temperature=temperature),
        report_progress=True,
    )


def words(request: Request) -> list[list[Event]]:
    """The default script: `max_output` (or 5) tokens "w0 w1 …", a frame each. Honours `replay` and `report_tokens`."""
    assert isinstance(request, InferenceRequest)
    total = request.max_output or 5
    frames: list[list[Event]] = [[Started(prompt_tokens=7)]]
    for token in range(len(request.replay), total):
        delta = TextDelta(f"w{token} ")
        frames.append([Tokens([token]), delta] if request.report_tokens else [delta])
    usage = Usage(prompt_tokens=7, completion_tokens=total)
    return [*frames, [ChoiceFinished("stop"), Finished(usage)]]


@dataclass
class FakeModel:
    """A model in the catalogue. `mib` is its size per device in MiB, `load_fails` how many loads fail first."""

    id: str
    mib: int = 100
    card: ModelCard | None = None
    load_s: float = 1.0
    load_fails: int = 0
    state: ModelState = "unloaded"
    servable: bool = True
    devices: list[str] = field(default_factory=list)
    running: int = 0
    used_at: float = 0.0
    progress: float = 0.0
    prefixes: list[int] = field(default_factory=list)
    error: str = ""

    def made_card(self) -> ModelCard:
        card = self.card or ModelCard(id=self.id, limits=Limits(context=4096), capabilities=Capabilities())
        return msgspec.structs.replace(card, size_bytes=self.mib * MIB)


class FakeNeuron:
    """A neuron with `devices` of so many MiB each, and `models`, which are copied.

    Requests are counted by `began` and `ended`; a load takes two calls, `start_load` and `finish_load`. `script` makes
    the frames of an answer; `gate`, if set, holds an answer after its first frame until it is set; after `die_after`
    frames of an answer the neuron dies. `seen` are the requests, `loads` and `evictions` the models in order.
    """

    def __init__(
        self, name: str, models: Sequence[FakeModel], devices: Sequence[int] = (150,), clock: ManualClock | None = None
    ) -> None:
        self.name = name
        self.clock = clock or ManualClock()
        self.models = {model.id: replace(model, devices=[]) for model in models}
        self.budget = {f"cpu{i}": mib * MIB for i, mib in enumerate(devices)}
        self.boots = count(1)
        self.boot = f"{name}-0"
        self.revision = 1
        self.draining = False
        self.alive = True
        self.hung = False
        self.loads: list[str] = []
        self.evictions: list[str] = []
        self.script: Script = words
        self.die_after: int | None = None
        self.gate: asyncio.Event | None = None
        self.seen: list[Request] = []
        self.profiles: ProfilesMark | None = None
        self.pushes: list[ProfilesOrder] = []

    # ---- life

    def kill(self) -> None:
        """As by SIGKILL: it answers nothing, and what was loaded and running is lost."""
        self.alive = False

    def restart(self) -> None:
        """Run again with a new boot id and nothing loaded."""
        self.alive = True
        self.profiles = None
        self.boot = f"{self.name}-{next(self.boots)}"
        self.revision = 1
        for model in self.models.values():
            model.state, model.devices, model.running, model.error = "unloaded", [], 0, ""

    # ---- orders

    def start_load(self, order: LoadOrder) -> None:
        """Evict the order's victims and reserve memory. Raises as a real neuron; asserts that the order is allowed."""
        model = self._model(order.model)
        if model.state in ("ready", "loading"):
            return
        if order.revision is not None and order.revision != self.revision:
            raise Conflict(f"decided on revision {order.revision}, this is {self.revision}")
        for victim in order.evict:
            self._evict(victim)
        devices = order.devices or [next(iter(self.budget))]
        for device in devices:
            if self.held(device) + model.mib * MIB > self.budget[device]:
                raise NoRoom(f"{order.model} doesn't fit on {device}")
        model.state, model.devices = "loading", list(devices)
        self.loads.append(order.model)
        self.revision += 1

    def finish_load(self, name: str) -> None:
        """Make a loading model ready. Raises ModelLoadFailed while its `load_fails` isn't used up."""
        model = self._model(name)
        if model.state != "loading":
            return
        self.revision += 1
        if model.load_fails:
            model.load_fails -= 1
            model.state, model.devices, model.error = "failed", [], "the file is broken"
            raise ModelLoadFailed(f"{name}: the file is broken")
        model.state, model.used_at = "ready", self.clock()

    def unload(self, order: UnloadOrder) -> None:
        if order.revision is not None and order.revision != self.revision:
            raise Conflict(f"decided on revision {order.revision}, this is {self.revision}")
        self._vacate(self._model(order.model))

    def take_profiles(self, order: ProfilesOrder) -> None:
        if order.replaces != (self.profiles.hash if self.profiles else ""):
            raise Conflict("others meanwhile")
        self.profiles = ProfilesMark(blake2b(order.document, digest_size=8).hexdigest(), order.source)
        self.pushes.append(order)

    def _evict(self, name: str) -> None:
        model = self._model(name)
        assert model.running == 0, f"{name} was evicted while {model.running} requests ran on it"
        assert not model.made_card().pinned, f"{name} was evicted though pinned"
        assert model.state == "ready", f"{name} was evicted while {model.state}"
        self.evictions.append(name)
        self._vacate(model)

    def _vacate(self, model: FakeModel) -> None:
        model.state, model.devices = "unloaded", []
        self.revision += 1

    # ---- requests

    def began(self, name: str) -> None:
        model = self._model(name)
        model.running += 1
        model.used_at = self.clock()

    def ended(self, name: str) -> None:
        model = self.models[name]
        model.running = max(0, model.running - 1)
        model.used_at = self.clock()

    # ---- documents

    def digest(self) -> object:
        """Another value after every change that a neuron sends a new status for."""
        models = [(m.state, m.servable, m.running, m.progress, m.error) for m in self.models.values()]
        return self.revision, self.draining, models

    def held(self, device: str) -> int:
        return sum(model.mib * MIB for model in self.models.values() if device in model.devices)

    def status(self) -> NeuronStatus:
        for device, budget in self.budget.items():
            assert self.held(device) <= budget, f"{self.name}/{device} holds more than its budget"
        return NeuronStatus(
            neuron=self.name,
            version="0",
            boot=self.boot,
            revision=self.revision,
            state="draining" if self.draining else "ready",
            devices=[self._device(device) for device in self.budget],
            workers=[],
            models=[self._status(model) for model in self.models.values()],
            ledger=[
                Reservation(device, model.id, model.mib * MIB)
                for model in self.models.values()
                for device in model.devices
            ],
            profiles=self.profiles,
        )

    def _device(self, device: str) -> DeviceStatus:
        budget, held = self.budget[device], self.held(device)
        return DeviceStatus(device, "cpu", device, device, budget, budget - held, budget, held, held)

    def _status(self, model: FakeModel) -> ModelStatus:
        return ModelStatus(
            card=model.made_card(),
            state=model.state,
            servable=model.servable and model.state == "ready",
            devices=list(model.devices),
            bytes=model.mib * MIB * len(model.devices),
            estimate_bytes=model.mib * MIB,
            load_seconds=model.load_s if model.state == "ready" else None,
            running=model.running,
            idle_s=max(0.0, self.clock() - model.used_at) if model.state == "ready" else 0.0,
            progress=model.progress,
            prefix_hashes=model.prefixes,
            prefix_block=1024,
            error=model.error,
        )

    def _model(self, name: str) -> FakeModel:
        if name not in self.models:
            raise ModelNotFound(f"no model {name!r}")
        return self.models[name]
