"""The rules the scheduler works by, gathered from config and profiles; replaced whole on reload."""

from __future__ import annotations

from msgspec import Struct

from cortex.config.profiles import Profiles
from cortex.config.settings import Config, EvictionConfig
from cortex.gateway.neurons.profile_push import ProfilePush
from cortex.gateway.scheduling.model_queue import Bounds

__all__ = ["Policy"]


class Policy(Struct, frozen=True):
    """`bounds` are for every model, `by_model` those of profiles. `impatient_s`: how long a client that doesn't stream
    waits for a load. `load_stall_s`: how long a load may make no progress. `return_s`: how long after the loss of its
    neurons a model's requests wait for one to come back. `push` sends neurons their profiles, None = never."""

    bounds: Bounds = Bounds()
    by_model: dict[str, Bounds] = {}
    eviction: EvictionConfig = EvictionConfig()
    tries: int = 3
    impatient_s: float = 60.0
    load_stall_s: float = 150.0
    return_s: float = 5.0
    push: ProfilePush | None = None

    @classmethod
    def of(cls, config: Config, profiles: Profiles) -> Policy:
        admission = config.admission
        bounds = Bounds(admission.in_flight, admission.queue, admission.queue_s, admission.per_principal)
        return cls(
            bounds=bounds,
            by_model={
                profile.id: Bounds(
                    bounds.in_flight if profile.in_flight is None else profile.in_flight,
                    bounds.queue if profile.queue is None else profile.queue,
                    bounds.queue_s,
                    bounds.per_principal,
                )
                for profile in profiles.models
            },
            eviction=config.eviction,
            tries=config.gateway.tries,
            push=ProfilePush.of(config, profiles),
            impatient_s=admission.non_stream_load_s,
            # The neuron's own watchdog gives up a stalled load first; this limit is for a neuron that doesn't.
            load_stall_s=config.neuron.load_stall_s * 1.25,
        )

    def bounds_of(self, model: str) -> Bounds:
        return self.by_model.get(model, self.bounds)
