"""The profiles in force on this neuron: those of its own models.toml, which are never replaced, or a gateway's.

Two gateways with different profiles can't overwrite each other's in turn: a push names the hash that it replaces, and
is refused when that isn't the one in force.
"""

from __future__ import annotations

import logging

from cortex.config.profiles import Profiles, decode_profiles, encode_profiles
from cortex.errors import BadRequest, ConfigError, Conflict
from cortex.wire.status import ProfilesMark, ProfilesOrder

__all__ = ["OWN_FILE", "ProfileSource"]

logger = logging.getLogger(__name__)

OWN_FILE = "models.toml"


class ProfileSource:
    """Holds the profiles in force: `current`, and `mark` with their hash and source, None for the defaults.

    Written on the event loop only; a scan reads `current` in a thread.
    """

    def __init__(self, current: Profiles, *, own_file: bool) -> None:
        self.reload(current, own_file=own_file)

    def reload(self, own: Profiles, *, own_file: bool) -> None:
        """Put the neuron's own profiles in force; without a file of its own, a gateway may replace them."""
        self.current = own
        self.mark: ProfilesMark | None = ProfilesMark(encode_profiles(own)[1], OWN_FILE) if own_file else None

    def take(self, order: ProfilesOrder) -> ProfilesMark:
        """Put `order`'s profiles in force. Raises Conflict when the sender may not replace the present ones, BadRequest
        when its document is not a valid models.toml."""
        held = self.mark
        if held is not None and held.source == OWN_FILE:
            raise Conflict("this neuron has a models.toml of its own")
        if order.replaces != (held.hash if held else ""):
            in_force = f"profiles of {held.source}" if held else "no profiles"
            raise Conflict(f"this neuron has {in_force}; read its status again")
        try:
            fresh = decode_profiles(bytes(order.document), f"profiles of {order.source}")
        except ConfigError as error:
            raise BadRequest(error.message) from error
        self.current, self.mark = fresh, ProfilesMark(encode_profiles(fresh)[1], order.source)
        logger.info("profiles replaced", extra={"source": order.source, "models": len(fresh.models)})
        return self.mark
