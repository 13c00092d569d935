"""Which of several neurons takes a model, and the plan that operators read (`cortex plan`). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, assert_never

from msgspec import Struct

from cortex.placement.decision import Decision, Evict, Place, Refuse, Wait
from cortex.wire.fleet import DevicePlan, NeuronPlan, PlacementPlan

__all__ = ["Assessment", "Present", "choose", "placement_plan"]


class Present(Struct, frozen=True):
    """There is nothing to decide: the model is there already, or about to be."""

    state: Literal["ready", "loading"]


class Assessment(Struct, frozen=True):
    """What one neuron could do for a model; `plans` are the bytes that it would take of each device."""

    neuron: str
    decision: Decision | Present
    plans: tuple[DevicePlan, ...] = ()

    @property
    def reason(self) -> str:
        match self.decision:
            case Present(state):
                return f"already {state}"
            case Place():
                return "fits in free memory"
            case Evict(_, models):
                return f"fits after evicting {', '.join(models)}"
            case Wait(reason) | Refuse(reason):
                return reason
        assert_never(self.decision)

    @property
    def devices(self) -> tuple[str, ...]:
        """Where the model would go."""
        return tuple(self.decision.bytes_by_device) if isinstance(self.decision, Place | Evict) else ()

    @property
    def evict(self) -> tuple[str, ...]:
        """Who would have to leave first."""
        return self.decision.models if isinstance(self.decision, Evict) else ()

    def report(self, *, chosen: bool) -> NeuronPlan:
        return NeuronPlan(self.neuron, self._verdict(), self.reason, list(self.plans), list(self.evict), chosen)

    def _verdict(self) -> Literal["loaded", "loading", "fits", "fits_by_evicting", "busy", "refused"]:
        match self.decision:
            case Present(state):
                return "loaded" if state == "ready" else "loading"
            case Place():
                return "fits"
            case Evict():
                return "fits_by_evicting"
            case Wait():
                return "busy"
            case Refuse():
                return "refused"
        assert_never(self.decision)


def choose(assessments: Sequence[Assessment]) -> Assessment | None:
    """The neuron to load on: the one with most bytes to spare where the model fits, else the cheapest eviction."""
    free = [(each, each.decision.spare_bytes) for each in assessments if isinstance(each.decision, Place)]
    if free:
        return max(free, key=lambda pair: pair[1])[0]
    evicting = [(each, each.decision.cost_s) for each in assessments if isinstance(each.decision, Evict)]
    return min(evicting, key=lambda pair: pair[1])[0] if evicting else None


def placement_plan(model: str, assessments: Sequence[Assessment]) -> PlacementPlan:
    """What would happen to a request for `model` now, and why, neuron by neuron."""
    chosen = choose(assessments)
    present = [each.neuron for each in assessments if isinstance(each.decision, Present)]
    if present:
        summary = f"{model} is on {', '.join(present)}"
    elif chosen:
        leaving = f" after evicting {', '.join(chosen.evict)}" if chosen.evict else ""
        summary = f"{model} would be loaded on {chosen.neuron}{leaving}"
    elif any(isinstance(each.decision, Wait) for each in assessments):
        summary = f"{model} would wait"
    else:
        summary = f"{model} can't be loaded now"
    return PlacementPlan(model, [each.report(chosen=each is chosen) for each in assessments], summary)
