"""Test-only switches of the shipped worker (`[faults]` in cortex.toml); all off unless a LoadSpec brings them."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from cortex.engine.engine import Engine
from cortex.engine.llama.batch import Batch
from cortex.engine.llama.context import DecodeFailed
from cortex.engine.loading import LoadedModel
from cortex.engine.request.active_requests import ActiveRequests
from cortex.engine.request.output import OutputProcessor
from cortex.engine.request.preparer import Preparer
from cortex.engine.sampling.sampler import RowSampler
from cortex.engine.scheduling.admission import Admission
from cortex.engine.scheduling.scheduler import Scheduler
from cortex.errors import ModelLoadFailed
from cortex.wire.events import TextDelta
from cortex.wire.worker import LoadSpec

__all__ = ["STAGES", "Faults"]

_FATAL_CODE = -3
"""What llama_decode returns after a failed graph computation (llama.h); any code below -1 is fatal here."""


@dataclass(frozen=True, slots=True)
class _Stage:
    """A method of `owner` that every request passes; `request_id` finds it in the method's arguments, self included.
    The fault is an exception, or `result` in place of the method's."""

    owner: type
    method: str
    request_id: Callable[..., str]
    result: object = None


def _of_argument(_self: object, item: Any, *_: object, **__: object) -> str:
    return str(item.request_id)


def _of_output(output: Any, *_: object, **__: object) -> str:
    return str(output._prepared.request.id)  # noqa: SLF001 - a fault is injected from outside on purpose


STAGES = {
    "prepare": _Stage(Preparer, "prepare", lambda _self, request: str(request.id)),
    "enter": _Stage(OutputProcessor, "__init__", lambda _self, prepared, *_: str(prepared.request.id)),
    "replay": _Stage(OutputProcessor, "replay", _of_output),
    "admit": _Stage(Admission, "open", _of_argument),
    "schedule": _Stage(Scheduler, "_chunk", _of_argument),
    "guess": _Stage(Engine, "_guess", _of_argument),
    "start": _Stage(ActiveRequests, "start", lambda _self, request: str(request.id)),
    "batch": _Stage(Batch, "_place", lambda _self, entry, _at: str(entry.sequence.request_id)),
    "score": _Stage(Engine, "_score_prompt", lambda _self, entry, _row: str(entry.sequence.request_id)),
    "mask": _Stage(RowSampler, "_compute_mask", _of_argument),
    "sample": _Stage(RowSampler, "_draw", _of_argument),
    "detokenise": _Stage(OutputProcessor, "_text_of", _of_output),
    "commit": _Stage(Scheduler, "commit", lambda _self, entry, *_, **__: str(entry.sequence.request_id)),
    "finish": _Stage(ActiveRequests, "finish", lambda _self, request: str(request.id)),
    "emit": _Stage(OutputProcessor, "feed", _of_output, [TextDelta("\ud800")]),
}
"""What a request passes on its way through the worker, in order."""


class _Switches(msgspec.Struct, frozen=True):
    """The part of `config.FaultsConfig` that a worker acts on. `models`: empty = all."""

    models: list[str] = []
    load_fails: int = 0
    load_delay_s: float = 0.0
    load_stalls: bool = False
    decode_fatal_after: int = 0
    decode_delay_s: float = 0.0
    drop_heartbeat: bool = False
    request_fails: str = ""
    request_fails_in: str = ""
    request_fails_after: int = 0
    check_books: bool = False


class Faults:
    """One per worker process. `before_load` runs in a load's thread, the rest in the loop's; no counter in both."""

    def __init__(self) -> None:
        self.drop_heartbeat = False
        self._switches: dict[str, _Switches] = {}
        self._loads = 0
        self._steps = 0

    def learn(self, spec: LoadSpec) -> None:
        """Take the switches that `spec` brings for its model."""
        switches = msgspec.convert(spec.faults, _Switches)
        if spec.faults and (not switches.models or spec.model in switches.models):
            self._switches[spec.model] = switches
            self.drop_heartbeat = self.drop_heartbeat or switches.drop_heartbeat
            if switches.request_fails:
                _break(STAGES[switches.request_fails_in], switches.request_fails, switches.request_fails_after)

    def before_load(self, spec: LoadSpec) -> None:
        """Delay the load, block it for ever or let it fail. Raises ModelLoadFailed."""
        if switches := self._switches.get(spec.model):
            self._loads += 1
            time.sleep(switches.load_delay_s)
            if switches.load_stalls:
                threading.Event().wait()
            if self._loads <= switches.load_fails:
                raise ModelLoadFailed(f"injected fault: load {self._loads} of {spec.model} fails")

    def before_step(self, spec: LoadSpec) -> None:
        """Delay a step. Raises a fatal DecodeFailed once more than `decode_fatal_after` steps were made."""
        if switches := self._switches.get(spec.model):
            self._steps += 1
            time.sleep(switches.decode_delay_s)
            if switches.decode_fatal_after and self._steps > switches.decode_fatal_after:
                raise DecodeFailed(_FATAL_CODE)

    def after_step(self, loaded: LoadedModel) -> None:
        """Compare the engine's books with llama.cpp's memory. Raises AssertionError, which ends the worker."""
        switches = self._switches.get(loaded.spec.model)
        if switches and switches.check_books:
            loaded.engine.check_integrity()


def _break(stage: _Stage, target: str, after: int) -> None:
    """From the `after`th call on, the method of `stage` fails for requests that have `target` in their id."""
    original = getattr(stage.owner, stage.method)
    calls = 0

    @functools.wraps(original)
    def broken(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        if target in stage.request_id(*args, **kwargs):
            calls += 1
            if calls > after:
                if stage.result is not None:
                    return stage.result
                raise RuntimeError(f"injected fault: {stage.method}")
        return original(*args, **kwargs)

    setattr(stage.owner, stage.method, broken)
