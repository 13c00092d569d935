"""models.toml for neurons that have none of their own. Pure: which of them are to get it now.

A neuron belongs to the first gateway that brought it profiles, until it restarts: a second one with another file leaves
it alone, so they don't overwrite each other for ever. Every order names the profiles that it replaces.
"""

from __future__ import annotations

import socket

from msgspec import Raw, Struct

from cortex.config.profiles import Profiles, encode_profiles
from cortex.config.settings import Config
from cortex.wire.status import NeuronStatus, ProfilesOrder

__all__ = ["ProfilePush"]


class ProfilePush(Struct, frozen=True):
    """This gateway's models.toml as `document` with its `hash`; `source` is the gateway's name, `neurons` get it."""

    hash: str
    source: str
    document: bytes
    neurons: frozenset[str] = frozenset()

    @classmethod
    def of(cls, config: Config, profiles: Profiles) -> ProfilePush:
        document, hash_ = encode_profiles(profiles)
        chosen = (
            entry.name
            for entry in config.neurons
            if (config.gateway.push_profiles if entry.push_profiles is None else entry.push_profiles)
        )
        return cls(hash_, f"{socket.gethostname()} {config.gateway.listen}", document, frozenset(chosen))

    def due(self, name: str, status: NeuronStatus) -> ProfilesOrder | None:
        """The order for a neuron that has none yet, or an older version of ours."""
        held = status.profiles
        ours = held is None or (held.source == self.source and held.hash != self.hash)
        if name not in self.neurons or not ours:
            return None
        return ProfilesOrder(self.source, held.hash if held else "", Raw(self.document))
