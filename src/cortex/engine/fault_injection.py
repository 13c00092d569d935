"""Test-only switches of the shipped worker (`[faults]` in cortex.toml); all off unless a LoadSpec brings them."""

from __future__ import annotations

import threading
import time

import msgspec

from cortex.engine.llama.context import DecodeFailed
from cortex.errors import ModelLoadFailed
from cortex.wire.worker import LoadSpec

__all__ = ["Faults"]

_FATAL_CODE = -3
"""What llama_decode returns after a failed graph computation (llama.h); any code below -1 is fatal here."""


class _Switches(msgspec.Struct, frozen=True):
    """The part of `config.FaultsConfig` that a worker acts on. `models`: empty = all."""

    models: list[str] = []
    load_fails: int = 0
    load_delay_s: float = 0.0
    load_stalls: bool = False
    decode_fatal_after: int = 0
    decode_delay_s: float = 0.0
    drop_heartbeat: bool = False


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
