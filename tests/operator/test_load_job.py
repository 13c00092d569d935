"""A load that is waited for ends when nobody carries it out any more."""

from __future__ import annotations

import msgspec
import pytest

from cortex.operator.load_job import updated_job
from cortex.wire.fleet import FleetModel, FleetStatus
from cortex.wire.status import LoadJob, ModelStatus
from tests.top.fleets import beast as beast_status
from tests.top.fleets import fleet, model


def with_counts(*statuses: ModelStatus, **counts: object) -> FleetStatus:
    base = fleet()
    beast = msgspec.structs.replace(base.neurons[0], status=msgspec.structs.replace(beast_status(), models=[*statuses]))
    return msgspec.structs.replace(base, neurons=[beast], models=[FleetModel("phi-4", **counts)])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "state", "words"),
    [
        (with_counts(model("phi-4", state="ready")), "ready", ""),
        (with_counts(model("phi-4", state="loading", stage="weights")), "loading", "weights"),
        (with_counts(model("phi-4"), waiting_loads=["j1"]), "loading", "waits for memory"),
        (with_counts(model("phi-4", state="unloading"), waiting_loads=["j1"]), "loading", "waits for memory"),
        (with_counts(model("phi-4")), "failed", "no memory became free"),
        (with_counts(model("phi-4"), last_error="out of memory"), "failed", "out of memory"),
        (with_counts(model("phi-4", state="failed", error="no GGUF")), "failed", "no GGUF"),
        (with_counts(), "failed", "no memory became free"),
    ],
)
def test_a_load_ends_when_nobody_carries_it_out_any_more(seen: FleetStatus, state: str, words: str) -> None:
    """A load that waited in vain for room was watched for ever."""
    job = updated_job(LoadJob("j1", "phi-4", "loading"), seen)
    assert job.state == state
    assert words in (job.error or job.stage)
