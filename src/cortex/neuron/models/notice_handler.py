"""Applies what workers send, and their deaths, to the models in them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from cortex.errors import CortexError, ModelLoadFailed, NoRoom, from_code
from cortex.neuron.models.loader import ModelLoader
from cortex.neuron.models.registry import ModelRegistry
from cortex.neuron.models.state import Loading, ManagedModel
from cortex.neuron.workers.process import Worker
from cortex.wire.worker import (
    Heartbeat,
    Loaded,
    LoadFailed,
    LoadProgress,
    ProbeReport,
    RelayedEmissions,
    RelayedNotice,
    StateSaved,
    Unloaded,
)

__all__ = ["NoticeHandler"]

logger = logging.getLogger(__name__)

_MAX_DEATHS = 3
"""Deaths of workers in a row that a model may be blamed for before it is no longer loaded by itself."""


class NoticeHandler:
    """The pool's `WorkerOwner`. `reload` queues a load of a model that lost its worker; `on_change` is called after a
    death, since it releases memory."""

    def __init__(
        self,
        registry: ModelRegistry,
        loader: ModelLoader,
        reload: Callable[[str], None],
        on_change: Callable[[], None],
    ) -> None:
        self._registry = registry
        self._loader = loader
        self._reload = reload
        self._on_change = on_change

    # ---- notices

    def on_notice(self, worker: Worker, notice: RelayedNotice) -> None:
        if isinstance(notice, RelayedEmissions):
            self._registry.active_requests.feed(notice)
            return
        self._on_other(worker, notice)
        if isinstance(notice, Loaded | LoadFailed | Unloaded):
            self._restart_progress(worker)
        self._registry.changes.tell()

    def _on_other(self, worker: Worker, notice: RelayedNotice) -> None:
        match notice:
            case Heartbeat():
                self._on_heartbeat(worker, notice)
            case LoadProgress(model, fraction, stage):
                if loading := self._loading_in(worker, model):
                    loading.advance(stage, fraction, self._registry.clock())
            case Loaded(model):
                if self._loading_in(worker, model):
                    self._loader.on_loaded(self._registry.models[model], notice, worker)
            case LoadFailed(model, code, message):
                if loading := self._loading_in(worker, model):
                    self._loader.on_load_failed(loading, _load_error(code, message), worker)
            case Unloaded(model):
                if managed := self._model_in(worker, model):
                    self._loader.unloader.on_unloaded(managed, worker)
            case StateSaved(model):
                if managed := self._model_in(worker, model):
                    managed.saved.set()
            case ProbeReport(model):
                managed = self._model_in(worker, model)
                if managed and managed.probe_report and not managed.probe_report.done():
                    managed.probe_report.set_result(notice)

    def _restart_progress(self, worker: Worker) -> None:
        """The worker has been busy with another model until now: that isn't counted against loads that wait in it."""
        for managed in self._registry.models_in(worker):
            if managed.state == "loading" and managed.loading is not None:
                managed.loading.progress_at = self._registry.clock()

    def _model_in(self, worker: Worker, model: str) -> ManagedModel | None:
        managed = self._registry.models.get(model)
        return managed if managed is not None and managed.worker is worker else None

    def _loading_in(self, worker: Worker, model: str) -> Loading | None:
        managed = self._model_in(worker, model)
        return managed.loading if managed is not None and managed.state == "loading" else None

    def _on_heartbeat(self, worker: Worker, notice: Heartbeat) -> None:
        """A canary answered or a step taken since the last heartbeat proves that the model decodes."""
        for stats in notice.models:
            managed = self._model_in(worker, stats.model)
            if managed is None:
                continue
            if stats.canaries > managed.canaries_seen:
                managed.canary_sent_at = None
            if stats.canaries > managed.canaries_seen or stats.steps > managed.steps_seen:
                managed.servable, managed.last_decode_at = True, self._registry.clock()
            managed.stats = stats
            managed.canaries_seen, managed.steps_seen = stats.canaries, stats.steps

    # ---- deaths

    def on_death(self, worker: Worker, reason: str) -> None:
        """Fail or reload the worker's models, and end its requests. Where a device of the worker is unhealthy no model
        is blamed: they are loaded again, elsewhere."""
        models = self._registry.models_in(worker)
        unhealthy = {device.id for device in self._registry.device_memory() if not device.healthy}
        for managed in [] if unhealthy.intersection(worker.devices) else _blamed(models):
            managed.deaths += 1
        for managed in models:
            self._on_model_lost(managed, _with_log(managed, worker, reason))
        self._registry.active_requests.lose(worker, reason)
        self._on_change()
        self._registry.changes.tell()

    def _on_model_lost(self, managed: ManagedModel, error: CortexError) -> None:
        """0. A tensor split may crash llama.cpp: from now on this model is split by layer.
        1. It was being unloaded: it is now. 2. It was loading: failed, but the next request may try again at once.
        3. It has been blamed too often: failed until an explicit load. 4. Else load it again."""
        model, given_up = managed.entry.id, managed.deaths >= _MAX_DEATHS
        if managed.entry.profile.split_mode == "tensor" and managed.state == "loading":  # 0
            managed.tensor_split_crashed = True
        if managed.state == "unloading":  # 1
            self._registry.release(managed)
            self._registry.set_state(managed, "unloaded")
        elif managed.state == "loading" or given_up:  # 2, 3
            self._loader.fail(managed, error, None if given_up else self._registry.clock())
            logger.error("model failed", extra={"model": model, "deaths": managed.deaths, "given_up": given_up})
        else:  # 4
            self._registry.release(managed)
            self._registry.set_state(managed, "unloaded")
            # Not in this step: first every model of the dead worker must be released.
            asyncio.get_running_loop().call_soon(self._reload, model)


def _blamed(models: list[ManagedModel]) -> list[ManagedModel]:
    """The model that was loading; else those that had running requests; else all."""
    loading = [managed for managed in models if managed.state == "loading"]
    return loading or [managed for managed in models if managed.running] or models


def _with_log(managed: ManagedModel, worker: Worker, reason: str) -> ModelLoadFailed:
    lines = " | ".join(worker.log_tail[-3:])
    return ModelLoadFailed(f"{managed.entry.id}: {reason}{'; its last log lines: ' if lines else ''}{lines}")


def _load_error(code: str, message: str) -> CortexError:
    error = from_code(code, message)
    return error if isinstance(error, ModelLoadFailed | NoRoom) else ModelLoadFailed(message)
