"""What the scheduler is given (jobs and their outcomes), and the effects that it returns.

Effects are plain values: the loop carries them out, tests read them.
"""

from __future__ import annotations

from enum import Enum

from msgspec import Struct

from cortex.wire.events import Failed, Progress
from cortex.wire.inference import Request
from cortex.wire.status import ProfilesOrder

__all__ = [
    "AbandonOrders",
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
    """A request as the scheduler sees it; without `request`, an operator's order to have `model` loaded. `patient`: the
    client sees progress (a stream) and may wait for any load; another is asked to retry later when the wait is long."""

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

    kind: OutcomeKind
    why: str = ""


class OperatorState(Struct, frozen=True, omit_defaults=True):
    """What operators ordered until further notice: whether models are pinned, and which neurons are drained."""

    pins: dict[str, bool] = {}
    drained: list[str] = []


# ---- effects


class Grant(Struct, frozen=True):
    """The job may run on `neuron` now; its place is counted until `ended` or `broken` is reported."""

    job_id: str
    neuron: str


class ModelReady(Struct, frozen=True):
    """An operator's load order is carried out: the model is loaded on `neuron`."""

    job_id: str
    neuron: str


class Reject(Struct, frozen=True):
    """The job is over; `reason` is a word of a bounded set, for the rejection metric."""

    job_id: str
    failed: Failed
    reason: str


class SendProgress(Struct, frozen=True):
    """Send a waiting client the progress of its job."""

    job_id: str
    progress: Progress


class OrderLoad(Struct, frozen=True):
    """Load `model` on `devices` after unloading `evict`. Decided on `revision` of the neuron's state: it refuses the
    order when it is at another. `by_operator`: an operator waits for it, not requests alone."""

    neuron: str
    model: str
    devices: tuple[str, ...] = ()
    evict: tuple[str, ...] = ()
    revision: int | None = None
    by_operator: bool = False


class OrderUnload(Struct, frozen=True):
    """Unload `model`, after its running requests unless `force`. `revision` as in OrderLoad."""

    neuron: str
    model: str
    reason: str
    force: bool = False
    revision: int | None = None


class PollNeuron(Struct, frozen=True):
    """Ask this neuron for its status now: its last one may no longer hold."""

    neuron: str


class AbortNeuron(Struct, frozen=True):
    """Break off all requests and orders on this neuron: it is lost, or has restarted."""

    neuron: str


class AbandonOrders(Struct, frozen=True):
    """Stop waiting for the answers to this neuron's orders: it has left the fleet, or has another address. Requests go
    on."""

    neuron: str


class SaveOperatorState(Struct, frozen=True):
    """The operators' pins or drains changed: save them for the next start."""

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
    | AbandonOrders
    | SaveOperatorState
    | PushProfiles
)
