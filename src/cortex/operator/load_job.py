"""A load that somebody waits for: how it stands, judged by the fleet's latest document. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from cortex.wire.fleet import FleetModel, FleetStatus
from cortex.wire.status import LoadJob

__all__ = ["updated_job"]

_STATE_ORDER = ("unloaded", "failed", "unloading", "loading", "ready")
"""Ascending: of several copies, the one nearest to being ready is reported."""
_GIVEN_UP = "no memory became free for it in time; `cortex plan` shows what prevents it"


def updated_job(job: LoadJob, fleet: FleetStatus) -> LoadJob:
    """`job` with the state that `fleet` shows.

    1. A copy is ready or loading: its state and progress.
    2. The gateway still tries to carry out this job: loading, in the stage "waits for memory".
    3. Otherwise nobody carries it out any more: failed, with the last error. Without this case the caller would poll
       for ever.
    """
    copies = [
        status
        for neuron in fleet.neurons
        if neuron.status
        for status in neuron.status.models
        if status.card.id == job.model
    ]
    best = max(copies, key=lambda status: _STATE_ORDER.index(status.state), default=None)
    counts = next((model for model in fleet.models if model.id == job.model), FleetModel(job.model))
    if best is not None and best.state in ("ready", "loading"):  # 1
        return replace(
            job, state=best.state, progress=best.progress, stage=best.stage, eta_s=best.eta_s, error=best.error
        )
    if job.id in counts.waiting_loads:  # 2
        return replace(job, stage="waits for memory")
    error = (best.error if best else "") or counts.last_error  # 3
    return replace(job, state="failed", error=error or _GIVEN_UP)
