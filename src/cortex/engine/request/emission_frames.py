"""Frames of a step's events; a request whose events can't be encoded fails alone."""

from __future__ import annotations

import logging
from collections.abc import Callable

from cortex.errors import InternalError
from cortex.wire.events import failed
from cortex.wire.framing import encode_frame
from cortex.wire.worker import Emission, Emissions

__all__ = ["emission_frames"]

logger = logging.getLogger(__name__)


def emission_frames(items: list[Emission], on_broken: Callable[[str], None]) -> list[bytes]:
    """`items` as one frame, or where that fails as one frame each.

    `on_broken` gets the ids of requests whose events can't be encoded; they are told that they failed.
    """
    try:
        return [encode_frame(Emissions(items))]
    except Exception:  # noqa: BLE001 - each item is tried by itself, and the one at fault logged
        return [_frame(item, on_broken) for item in items]


def _frame(item: Emission, on_broken: Callable[[str], None]) -> bytes:
    try:
        return encode_frame(Emissions([item]))
    except Exception as error:
        logger.exception("events can't be encoded id=%s", item.request_id)
        on_broken(item.request_id)
        failure = failed(InternalError(f"{type(error).__name__}: {error}"))
        return encode_frame(Emissions([Emission.of(item.request_id, [failure])]))
