"""llama.cpp's backend samplers: the device draws tokens as part of the graph, for requests that allow it."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from cortex.engine.llama.context import Context
from cortex.engine.llama.sampler import Sampler
from cortex.engine.request.output import PreparedRequest
from cortex.engine.request.state import ChoiceState
from cortex.engine.sampling.params import suits_backend

__all__ = ["BackendSampling", "may_sample_on_device"]

logger = logging.getLogger(__name__)


def may_sample_on_device(prepared: PreparedRequest, vocab_size: int) -> bool:
    """Whether the host needs no logits for `prepared`, and the device can draw its tokens as the CPU would."""
    needs_logits = prepared.constraints or prepared.request.logprobs is not None or prepared.scored_from is not None
    return not needs_logits and suits_backend(prepared.sampling, vocab_size)


class BackendSampling:
    """Keeps one context's table of samplers by sequence id (llama_set_sampler); nothing else changes it.

    Every change makes llama.cpp plan its graphs anew (25 instead of 10 ms for that step: SmolLM2, 2 threads,
    docs/explanation/performance.md), and the rows of a batch are read by the table it was decoded with. So changes are
    made right before a decode, all at once, and an ended sequence stays in the table until the next change.
    """

    def __init__(self, model: str, context: Context) -> None:
        self._model = model
        self._context = context
        self._enabled = context.backend_sampling
        self._attached: dict[int, Sampler] = {}
        self._refused: set[tuple[str, ...]] = set()

    @property
    def slots(self) -> list[int]:
        """The sequence ids in the context's table, those of ended sequences included."""
        return sorted(self._attached)

    def wants(self, prepared: PreparedRequest) -> bool:
        """Whether the choices of `prepared` are to be sampled on the device."""
        return self._enabled and may_sample_on_device(prepared, self._context.model.vocab.size)

    def update(self, running: Iterable[ChoiceState]) -> None:
        """Before a decode: put each running choice with `on_device` into the table, under its present sequence id.

        No other running choice stays in it. A choice whose samplers llama.cpp refuses gets `on_device` = False.
        """
        if not self._enabled:
            return
        choices = {choice.slot.id: choice for choice in running if choice.slot}
        wanted = {slot: choice.sampler for slot, choice in choices.items()}
        stale = [slot for slot, sampler in self._attached.items() if wanted.get(slot) is not sampler]
        on_device = {slot: choice.sampler for slot, choice in choices.items() if choice.on_device}
        fresh = [slot for slot, sampler in on_device.items() if self._attached.get(slot) is not sampler]
        if fresh or not wanted.keys().isdisjoint(stale):
            for slot in stale:
                self._detach(slot)
            for slot in fresh:
                self._attach(slot, choices[slot])

    def close(self) -> None:
        """Empty the table; before the context is freed."""
        for slot in self.slots:
            self._detach(slot)

    def _attach(self, slot: int, choice: ChoiceState) -> None:
        members = choice.sampler.members
        if members not in self._refused and self._try(slot, choice.sampler):
            return
        choice.on_device = False
        if members not in self._refused:
            self._refused.add(members)
            logger.warning("samplers stay on the CPU model=%s samplers=%s", self._model, ",".join(members))

    def _try(self, slot: int, sampler: Sampler) -> bool:
        """False if llama.cpp would leave any part of the chain to the CPU; then nothing is attached."""
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
