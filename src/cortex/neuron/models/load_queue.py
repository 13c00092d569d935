"""Loads waiting for room, oldest first. What to do is `placement`'s decision; here it is asked for and carried out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

from cortex.errors import CortexError, Draining, ModelLoadFailed, NoRoom
from cortex.neuron.models.load_plan import contexts, device_sets
from cortex.neuron.models.loader import ModelLoader
from cortex.neuron.models.placement import Decision, Evict, Need, Place, Refuse, Scene, Wait, decide
from cortex.neuron.models.registry import ModelRegistry
from cortex.neuron.models.state import Loading, ManagedModel

__all__ = ["LoadQueue"]

logger = logging.getLogger(__name__)


class LoadQueue:
    """`pump` is asked again after every change; it never blocks and decides on what is true in this step."""

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry
        self._loader = ModelLoader(registry, self.pump)
        self._waiting: list[Loading] = []
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
            self._leave(loading)
            self._registry.models[loading.model].loading = None
            loading.fail(error)

    def close(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
        for loading in list(self._waiting):
            self.abandon(loading, Draining("this neuron is shutting down"))

    def pump(self) -> None:
        """Give every waiting load its next step; nobody younger takes the room that a starved one waits for."""
        now = self._registry.clock()
        for loading in list(self._waiting):
            if loading not in self._waiting:
                continue  # an earlier step's failure ended it
            managed = self._registry.models[loading.model]
            if managed.state == "ready" and not managed.closed:
                self._leave(loading)
                managed.loading = None
                loading.succeed()
            elif managed.state not in ("unloading", "ready"):
                self._step(loading, managed, now)
            if loading in self._waiting and self._starved(loading, now):
                break

    def _step(self, loading: Loading, managed: ManagedModel, now: float) -> None:
        if managed.entry.header is None and managed.entry.repo and self._registry.fetch:
            self._leave(loading)
            self._loader.start_fetch(loading, self._return)
            return
        try:
            context, decision = self._choose(loading, managed)
        except CortexError as error:
            self.abandon(loading, error)
            return
        except Exception:  # a bug; left in the queue, it would end every other load's turn as well
            logger.exception("a load can't be planned", extra={"model": loading.model})
            self.abandon(
                loading, ModelLoadFailed(f"{loading.model} can't be planned; the neuron's log has the details")
            )
            return
        match decision:
            case Place(sizes) if self._registry.planner.wants_dry_run(managed.entry, context, list(sizes)):
                self._leave(loading)
                self._loader.start_dry_run(loading, list(sizes), context, self._return)
            case Place(bytes_by_device):
                self._leave(loading)
                self._loader.start_load(loading, bytes_by_device, context)
            case Evict(models):
                for model in models:
                    self._loader.unloader.evict(model, "room", wanted_by=loading.model)
            case Wait(models, until_s):
                self._wait(loading, models, until_s, now)
            case Refuse(reason):
                self.abandon(loading, NoRoom(reason))

    def _return(self, loading: Loading) -> None:
        """Its file is here now, or its size is known better: decide anew."""
        self._waiting.append(loading)
        self.pump()

    def _choose(self, loading: Loading, managed: ManagedModel) -> tuple[int, Decision]:
        """The largest context that fits as things are; failing that, the decision for the largest."""
        if managed.entry.header is None or managed.entry.problem:
            raise ModelLoadFailed(managed.entry.problem or f"{loading.model} has not been downloaded")
        first: tuple[int, Decision] | None = None
        scene = self._registry.scene()
        for context in contexts(managed.entry):
            decision = self._decide(loading, managed, context, scene)
            if isinstance(decision, Place):
                return context, decision
            if first is None or isinstance(first[1], Refuse):
                first = context, decision
        assert first is not None
        return first

    def _decide(self, loading: Loading, managed: ManagedModel, context: int, scene: Scene) -> Decision:
        held = self._registry.ledger.held
        budgets = {room.device: room.budget_bytes for room in scene.rooms}
        free = {room.device: room.budget_bytes - room.foreign_bytes - held(room.device) for room in scene.rooms}
        sizes = partial(self._registry.planner.sizes, managed.entry, context)
        sets = device_sets(managed.entry, sizes, budgets, free, loading.devices)
        if unknown := sorted({device for wanted in sets for device in wanted} - budgets.keys()):
            here = ", ".join(budgets)
            raise NoRoom(f"{loading.model} is to run on {', '.join(unknown)}; this neuron has {here}")
        return decide(Need(loading.model, sets, loading.evict), scene)

    def _wait(self, loading: Loading, models: Sequence[str], until_s: float | None, now: float) -> None:
        loading.advance("waiting for room", 0.0, now)
        if self._starved(loading, now):
            for model in models:
                self._registry.models[model].closed = True
        else:
            self._pump_at(loading.asked_at + self._registry.config.eviction.starvation_s)
        if until_s is not None:
            self._pump_at(until_s)

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

    def _starved(self, loading: Loading, now: float) -> bool:
        return now - loading.asked_at > self._registry.config.eviction.starvation_s

    def _leave(self, loading: Loading) -> None:
        self._waiting.remove(loading)
        if not self._waiting:
            for managed in self._registry.models.values():
                managed.closed = False
