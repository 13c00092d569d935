"""Whose profiles this neuron works by: its own file's, for good, or those of the first gateway that brings some.

Two gateways with different files can't fight: each tells what it believes to replace, and leaves another's alone.
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
    """`current` is what is in force, `mark` whose it is."""

    def __init__(self, current: Profiles, *, own_file: bool) -> None:
        self.current = current
        self.mark = ProfilesMark(encode_profiles(current)[1], OWN_FILE) if own_file else None

    def take(self, order: ProfilesOrder) -> ProfilesMark:
        """Raises Conflict when they are not the sender's to replace, BadRequest for what models.toml may not say."""
        held = self.mark
        if held is not None and held.source == OWN_FILE:
            raise Conflict("this neuron has a models.toml of its own")
        if order.replaces != (held.hash if held else ""):
            raise Conflict(f"this neuron works by profiles of {held.source if held else 'nobody'}; look again")
        try:
            fresh = decode_profiles(bytes(order.document), f"profiles of {order.source}")
        except ConfigError as error:
            raise BadRequest(error.message) from error
        self.current, self.mark = fresh, ProfilesMark(encode_profiles(fresh)[1], order.source)
        logger.info("profiles taken over", extra={"source": order.source, "models": len(fresh.models)})
        return self.mark
