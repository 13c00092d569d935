"""What the loop tells the scheduler, and what the scheduler wants done.

Effects are plain values: the loop performs them, tests read them.
"""

from __future__ import annotations

from enum import Enum

from msgspec import Struct

from cortex.wire.events import Failed, Progress
from cortex.wire.inference import Request
from cortex.wire.status import ProfilesOrder

__all__ = [
    "AbortNeuron",
    "Effect",
    "Grant",
    "Job",
    "ModelReady",
    "OperatorState",
    "OrderLoad",
    "OrderUnload",
    "Outcome",
    "OutcomeKind",
    "PollNeuron",
    "PushProfiles",
    "Reject",
    "SaveOperatorState",
    "SendProgress",
]


class Job(Struct, frozen=True):
    """A request as the scheduler sees it. Without `request` it is an operator's wish to have `model` loaded. `patient`
    jobs keep their client informed (a stream) and may wait for any load; the others are told to come back when the
    wait is long."""

    id: str
    model: str
    arrived_at: float
    request: Request | None = None
    principal: str | None = None
    patient: bool = True


class OutcomeKind(Enum):
    """How a request's time on a neuron ended."""

    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"
    """The neuron answered with an error that another neuron would give as well."""
    BROKEN_EARLY = "broken_early"
    """The neuron broke the request off before its first event; counts against its breaker."""
    BROKEN_LATE = "broken_late"


class Outcome(Struct, frozen=True):
    """`why` in words, where it wasn't a success."""

    verdict: OutcomeKind
    why: str = ""


class OperatorState(Struct, frozen=True, omit_defaults=True):
    """What operators ordered until further notice: pins (or their lifting) by model, and the drained neurons."""

    pins: dict[str, bool] = {}
    drained: list[str] = []


# ---- effects


class Grant(Struct, frozen=True):
    """The job may run on `neuron` now; its place is counted until `ended` or `broken` is reported."""

    job_id: str
    neuron: str


class ModelReady(Struct, frozen=True):
    """The operator's wish is fulfilled: the model is loaded on `neuron`."""

    job_id: str
    neuron: str


class Reject(Struct, frozen=True):
    """The job is over; `reason` is a bounded word for the rejection metric."""

    job_id: str
    failed: Failed
    reason: str


class SendProgress(Struct, frozen=True):
    job_id: str
    progress: Progress


class OrderLoad(Struct, frozen=True):
    """Decided on `revision` of the neuron's state; it refuses if it has moved on."""

    neuron: str
    model: str
    devices: tuple[str, ...] = ()
    evict: tuple[str, ...] = ()
    revision: int | None = None


class OrderUnload(Struct, frozen=True):
    neuron: str
    model: str
    reason: str
    force: bool = False
    revision: int | None = None


class PollNeuron(Struct, frozen=True):
    """Ask this neuron for its status now: what was known of it is doubtful."""

    neuron: str


class AbortNeuron(Struct, frozen=True):
    """Whatever is under way with this neuron can't end any more: break off its streams and orders."""

    neuron: str


class SaveOperatorState(Struct, frozen=True):
    """The operators' pins and drains changed: save them for the next start."""

    operator_state: OperatorState


class PushProfiles(Struct, frozen=True):
    """Send a neuron its profiles."""

    neuron: str
    order: ProfilesOrder


Effect = (
    Grant
    | ModelReady
    | Reject
    | SendProgress
    | OrderLoad
    | OrderUnload
    | PollNeuron
    | AbortNeuron
    | SaveOperatorState
    | PushProfiles
)
