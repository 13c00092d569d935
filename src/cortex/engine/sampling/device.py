"""llama.cpp's backend samplers: tokens are drawn by the device, as part of the graph, where a request allows it."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from cortex.engine.llama.context import Context
from cortex.engine.llama.sampler import Sampler
from cortex.engine.request.output import Job
from cortex.engine.request.state import ChoiceState
from cortex.engine.sampling.params import suits_backend

__all__ = ["BackendSampling", "may_sample_on_device"]

logger = logging.getLogger(__name__)


def may_sample_on_device(job: Job, vocab_size: int) -> bool:
    """Whether the drawn tokens are all that the host must see of `job`, and the device can draw them."""
    sees_logits = job.constraints or job.request.logprobs is not None or job.scored_from is not None
    return not sees_logits and suits_backend(job.sampling, vocab_size)


class BackendSampling:
    """The only one who tells a context which sequence ids are sampled on the device.

    Every change makes llama.cpp plan its graphs anew, and the rows of a batch are read by the table it was decoded
    with. So changes are made right before a decode, all at once, and one whose sequence has ended waits for the next.
    """

    def __init__(self, model: str, context: Context) -> None:
        self._model = model
        self._context = context
        self._enabled = context.backend_sampling
        self._attached: dict[int, Sampler] = {}
        self._refused: set[tuple[str, ...]] = set()

    @property
    def slots(self) -> list[int]:
        """The sequence ids in the context's table, of ended sequences too."""
        return sorted(self._attached)

    def wants(self, job: Job) -> bool:
        return self._enabled and may_sample_on_device(job, self._context.model.vocab.size)

    def settle(self, running: Iterable[ChoiceState]) -> None:
        """Before a decode: whoever of `running` is to be sampled on the device is in the table, under the sequence id
        it has now, and nobody else of them is."""
        if not self._enabled:
            return
        here = {branch.sequence.slot.id: branch for branch in running if branch.sequence.slot}
        known = {slot: here[slot].sampler for slot in here}
        stale = [slot for slot, sampler in self._attached.items() if known.get(slot) is not sampler]
        fresh = [slot for slot in here if here[slot].on_device and self._attached.get(slot) is not known[slot]]
        if fresh or not known.keys().isdisjoint(stale):
            for slot in stale:
                self._detach(slot)
            for slot in fresh:
                self._attach(slot, here[slot])

    def close(self) -> None:
        """Before the context is freed."""
        for slot in self.slots:
            self._detach(slot)

    def _attach(self, slot: int, branch: ChoiceState) -> None:
        members = branch.sampler.members
        if members not in self._refused and self._try(slot, branch.sampler):
            return
        branch.on_device = False
        if members not in self._refused:
            self._refused.add(members)
            logger.warning("samplers stay on the CPU model=%s samplers=%s", self._model, ",".join(members))

    def _try(self, slot: int, sampler: Sampler) -> bool:
        """False when llama.cpp would leave any part of the chain to the CPU."""
        taken = self._context.set_sampler(slot, sampler.lend())
        if taken and all(name.startswith(("+", "?")) for name in sampler.members):
            self._attached[slot] = sampler
            return True
        self._context.set_sampler(slot, None)
        sampler.take_back()
        return False

    def _detach(self, slot: int) -> None:
        self._context.set_sampler(slot, None)
        self._attached.pop(slot).take_back()
