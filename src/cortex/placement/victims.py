"""Which of the residents that may leave are evicted. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from cortex.config.settings import EvictionConfig
from cortex.placement.facts import DeviceSet, Resident

__all__ = ["cheapest_set", "pick_victims", "rank"]


def rank(resident: Resident, rules: EvictionConfig) -> tuple[float, ...]:
    """Sorts the first to go first: lowest class (strategy "priority"), then least recently used, then cheapest to load
    again. One that is loading comes after those in use: its turn hasn't begun."""
    by_class = resident.priority if rules.strategy == "priority" else 0
    return (by_class, math.inf if resident.loading else resident.used_at, resident.load_s or 0.0)


def pick_victims(
    shortfall: Mapping[str, int], candidates: Iterable[Resident], rules: EvictionConfig
) -> list[Resident] | None:
    """The residents to evict so that each device gains `shortfall` bytes, none of them superfluous; None if even all
    of them don't suffice.

    Taken in order of rank until they suffice; then those that later ones made superfluous are spared, the last in rank
    first.
    """
    chosen: list[Resident] = []
    for candidate in sorted(candidates, key=lambda resident: rank(resident, rules)):
        if _suffices(shortfall, chosen):
            break
        if any(_missing(shortfall, chosen, device) > 0 for device in candidate.bytes_by_device):
            chosen.append(candidate)
    if not _suffices(shortfall, chosen):
        return None
    for candidate in reversed(chosen.copy()):
        rest = [other for other in chosen if other is not candidate]
        if _suffices(shortfall, rest):
            chosen = rest
    return chosen


def cheapest_set(
    sets: Iterable[DeviceSet], free: Mapping[str, int], candidates: Sequence[Resident], rules: EvictionConfig
) -> tuple[DeviceSet, list[Resident]] | None:
    """The device set whose victims are missed least, with these victims; None if no set can be made to fit.

    Sets of victims are compared by the one that ranks last, then by their number; among equals the first set wins.
    """
    options = []
    for wanted in sets:
        shortfall = {device: size - free[device] for device, size in wanted.items() if size > free[device]}
        victims = pick_victims(shortfall, candidates, rules)
        if victims is not None:
            options.append((wanted, victims))
    return min(options, key=lambda option: _cost(option[1], rules), default=None)


def _cost(victims: Sequence[Resident], rules: EvictionConfig) -> tuple[tuple[float, ...], int]:
    return (max((rank(victim, rules) for victim in victims), default=()), len(victims))


def _missing(shortfall: Mapping[str, int], chosen: Sequence[Resident], device: str) -> int:
    return shortfall.get(device, 0) - sum(resident.bytes_by_device.get(device, 0) for resident in chosen)


def _suffices(shortfall: Mapping[str, int], chosen: Sequence[Resident]) -> bool:
    return all(_missing(shortfall, chosen, device) <= 0 for device in shortfall)
