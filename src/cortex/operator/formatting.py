"""Numbers as short text for tables and screens: bytes, ages, bars, sparklines. Pure."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["bar", "clip", "format_age", "format_bytes", "sparkline"]

_LEVELS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int) -> str:
    """The last `width` values as block characters, scaled so that the highest is a full block."""
    shown = list(values)[-width:] if width > 0 else []
    highest = max(shown, default=0.0)
    if highest <= 0:
        return _LEVELS[0] * len(shown)
    return "".join(_LEVELS[min(len(_LEVELS) - 1, round(value / highest * (len(_LEVELS) - 1)))] for value in shown)


def format_bytes(count: float) -> str:
    """`18.2G`: binary units, one decimal from MiB on."""
    for unit in "BKMG":
        if count < 1024 or unit == "G":
            return f"{count:.0f}{unit}" if unit in "BK" else f"{count:.1f}{unit}"
        count /= 1024
    raise AssertionError("unreachable")


def format_age(seconds: float) -> str:
    """`12s`, `4m`, `3h`, `2d`: rounded down to one unit."""
    for limit, unit, name in ((60, 1, "s"), (3600, 60, "m"), (86400, 3600, "h")):
        if seconds < limit:
            return f"{int(seconds // unit)}{name}"
    return f"{int(seconds // 86400)}d"


def bar(share: float, width: int) -> str:
    """`share` (0 to 1, clamped) of `width` characters filled."""
    full = round(max(0.0, min(1.0, share)) * width)
    return "█" * full + "░" * (width - full)


def clip(text: str, width: int) -> str:
    """`text`, cut to `width` characters with an ellipsis where it is longer."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"
