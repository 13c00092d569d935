"""Which of several loaded copies serves a request. Pure.

Cost of a copy, in seconds: waiting for a slot, sharing the decode with what runs there, and evaluating the part of
the prompt that it doesn't hold. A conversation stays on its copy unless another is cheaper by more than
`_AFFINITY_BONUS_S`. Without any statistics the emptiest copy wins, and among equals the one least recently used, so
that a fresh gateway spreads its requests.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b

import msgspec
from msgspec import Struct

from cortex.wire.inference import InferenceRequest, Request
from cortex.wire.prefix import BLOCK_BYTES

__all__ = ["Affinity", "Copy", "affinity_key", "choose_copy"]

_DEFAULT_PREFILL_TPS = 500.0
_TOKENS_PER_BLOCK = BLOCK_BYTES / 4.0
_SHARING_COST = 0.1
"""Of a typical request's time, per stream already running on the copy."""
_AFFINITY_BONUS_S = 0.05
_MOST_KEYS = 20_000

_encode = msgspec.msgpack.Encoder().encode


class Copy(Struct, frozen=True):
    """A loaded, servable model on one neuron. `running` counts everyone's requests, ours up to this moment;
    `missing_blocks` is the part of the prompt that it doesn't hold."""

    neuron: str
    running: int = 0
    parallel: int = 1
    missing_blocks: int = 0
    prefill_tps: float = 0.0
    used_at: float = 0.0


class Affinity:
    """The neuron that a conversation was on last, by model and conversation key."""

    def __init__(self) -> None:
        self._neurons: OrderedDict[tuple[str, str], str] = OrderedDict()

    def get(self, model: str, key: str | None) -> str | None:
        return self._neurons.get((model, key)) if key else None

    def set(self, model: str, key: str | None, neuron: str) -> None:
        if not key:
            return
        self._neurons[model, key] = neuron
        self._neurons.move_to_end((model, key))
        if len(self._neurons) > _MOST_KEYS:
            self._neurons.popitem(last=False)


def affinity_key(request: Request | None) -> str | None:
    """The key of a conversation: the client's own, else a hash of its messages up to the first of the user. None for
    requests without messages."""
    if not isinstance(request, InferenceRequest):
        return None
    if request.cache_key or not request.messages:
        return request.cache_key
    first = next((place for place, message in enumerate(request.messages) if message.role == "user"), 0)
    return blake2b(_encode(request.messages[: first + 1]), digest_size=12).hexdigest()


def choose_copy(copies: Sequence[Copy], home: str | None, service_s: float) -> Copy:
    """The cheapest copy; `home` is the neuron this conversation was on, `service_s` how long a request takes."""

    def cost(copy: Copy) -> tuple[float, int, float]:
        prefill_s = copy.missing_blocks * _TOKENS_PER_BLOCK / (copy.prefill_tps or _DEFAULT_PREFILL_TPS)
        rounds = max(0, copy.running + 1 - copy.parallel) / copy.parallel
        seconds = prefill_s + service_s * (rounds + _SHARING_COST * copy.running)
        if copy.neuron == home:
            seconds -= _AFFINITY_BONUS_S
        return (round(seconds, 3), copy.running, copy.used_at)

    return min(copies, key=cost)
