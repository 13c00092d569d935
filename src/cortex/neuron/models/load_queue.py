"""Loads that wait for memory, oldest first. `placement` decides what to do; this module carries it out."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from cortex.errors import CortexError, Draining, ModelLoadFailed, NoRoom
from cortex.neuron.models.load_plan import contexts, device_sets
from cortex.neuron.models.loader import ModelLoader
from cortex.neuron.models.registry import ModelRegistry
from cortex.neuron.models.state import Loading, ManagedModel
from cortex.placement.decision import Decision, Evict, Place, Refuse, Wait, decide
from cortex.placement.facts import Claim, NeuronMemory
from cortex.placement.reasons import byte_by_byte
from cortex.placement.residency import starved

__all__ = ["LoadQueue"]

logger = logging.getLogger(__name__)


class LoadQueue:
    """`pump` runs after every change; it never blocks, and decides on what is true in this step of the event loop."""

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry
        self._loader = ModelLoader(registry, self.pump)
        self._waiting: list[Loading] = []
        self._closed: list[ManagedModel] = []
        self._retry: asyncio.TimerHandle | None = None
        self._retry_at = 0.0

    @property
    def loader(self) -> ModelLoader:
        return self._loader

    def ask(self, loading: Loading) -> Loading:
        """Queue a load of a model that has none under way. Raises Draining."""
        if self._registry.closed:
            raise Draining("this neuron is shutting down")
        self._registry.models[loading.model].loading = loading
        self._waiting.append(loading)
        self.pump()
        return loading

    def abandon(self, loading: Loading, error: CortexError) -> None:
        """End a load that still waits; one under way ends with its worker's answer."""
        if loading in self._waiting:
            self._fail(loading, error)
            self.pump()  # what was closed for it is open again

    def close(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
        for loading in list(self._waiting):
            self._fail(loading, Draining("this neuron is shutting down"))

    def pump(self) -> None:
        """Give every waiting load its next step. Which models are closed is decided anew; no younger load takes memory
        that a starved one waits for."""
        starving = False
        for managed in self._closed:
            managed.closed = False
        self._closed.clear()
        for loading in list(self._waiting):
            if loading not in self._waiting:
                continue  # an earlier step's failure ended it
            managed = self._registry.models[loading.model]
            if managed.state == "ready" and not managed.closed:
                self._waiting.remove(loading)
                managed.loading = None
                loading.succeed()
            elif managed.state not in ("unloading", "ready") and not starving:
                self._step(loading, managed)
            if loading in self._waiting:
                starving = starving or starved(self._claim(loading, managed), self._registry.config.eviction)

    def _step(self, loading: Loading, managed: ManagedModel) -> None:
        if managed.entry.header is None and managed.entry.repo and self._registry.fetch:
            self._waiting.remove(loading)
            self._loader.start_fetch(loading, self._return)
            return
        try:
            context, decision = self._choose(loading, managed)
        except CortexError as error:
            self._fail(loading, error)
            return
        except Exception:  # a bug; left in the queue, it would raise in every later pump and block the other loads
            logger.exception("a load can't be planned", extra={"model": loading.model})
            self._fail(loading, ModelLoadFailed(f"{loading.model} can't be planned; the neuron's log has the details"))
            return
        match decision:
            case Place(sizes) if self._registry.planner.wants_dry_run(managed.entry, context, list(sizes)):
                self._waiting.remove(loading)
                self._loader.start_dry_run(loading, list(sizes), context, self._return)
            case Place(bytes_by_device):
                self._waiting.remove(loading)
                self._loader.start_load(loading, bytes_by_device, context)
            case Evict(_, models):
                for model in models:
                    self._loader.unloader.evict(model, "room", wanted_by=loading.model)
            case Wait():
                self._wait(loading, decision)
            case Refuse(reason):
                self._fail(loading, NoRoom(reason))

    def _return(self, loading: Loading) -> None:
        """Queue a load again: its file is here now, or its size is known better."""
        self._waiting.append(loading)
        self.pump()

    def _choose(self, loading: Loading, managed: ManagedModel) -> tuple[int, Decision]:
        """The largest context that fits as things are; failing that, the decision for the largest."""
        if managed.entry.header is None or managed.entry.problem:
            raise ModelLoadFailed(managed.entry.problem or f"{loading.model} has not been downloaded")
        first: tuple[int, Decision] | None = None
        claim, memory = self._claim(loading, managed), self._registry.memory()
        for context in contexts(managed.entry):
            decision = self._decide(loading, managed, context, claim, memory)
            if isinstance(decision, Place):
                return context, decision
            if first is None or isinstance(first[1], Refuse):
                first = context, decision
        assert first is not None
        return first

    def _claim(self, loading: Loading, managed: ManagedModel) -> Claim:
        waited_s = self._registry.clock() - loading.asked_at
        return Claim(loading.model, managed.entry.profile.residency_priority, waited_s, loading.evict)

    def _decide(
        self, loading: Loading, managed: ManagedModel, context: int, claim: Claim, memory: NeuronMemory
    ) -> Decision:
        registry, known = self._registry, [device.id for device in memory.devices]
        sizes = partial(registry.planner.sizes, managed.entry, context)
        sets = device_sets(managed.entry, sizes, memory, loading.devices)
        if unknown := sorted({device for wanted in sets for device in wanted}.difference(known)):
            here = ", ".join(known)
            raise NoRoom(f"{loading.model} is to run on {', '.join(unknown)}; this neuron has {here}")
        decision = decide(claim, sets, memory, registry.config.eviction, registry.clock())
        return Refuse(byte_by_byte(claim, sets, memory)) if isinstance(decision, Refuse) else decision

    def _wait(self, loading: Loading, decision: Wait) -> None:
        loading.advance("waiting for room", 0.0, self._registry.clock())
        for model in decision.close:
            managed = self._registry.models[model]
            managed.closed = True
            self._closed.append(managed)
        if decision.until is not None:
            self._pump_at(decision.until)

    def _pump_at(self, when: float) -> None:
        """Ask again at `when`, or at an earlier time that is set already."""
        if self._retry is not None and self._retry_at <= when:
            return
        if self._retry is not None:
            self._retry.cancel()
        delay_s = max(when - self._registry.clock(), 0.0) + 0.001
        self._retry_at = when
        self._retry = asyncio.get_running_loop().call_later(delay_s, self._on_retry)

    def _on_retry(self) -> None:
        self._retry = None
        self.pump()

    def _fail(self, loading: Loading, error: CortexError) -> None:
        self._waiting.remove(loading)
        self._registry.models[loading.model].loading = None
        loading.fail(error)
