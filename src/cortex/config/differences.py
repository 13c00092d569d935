"""Which settings differ between two configs, by dotted name, and configs in which some keep their value. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct, structs

from cortex.config.settings import Config

__all__ = ["differing", "keeping", "named"]


def differing(old: Config, new: Config) -> list[str]:
    """The names of the settings that differ: `log.level`; of those that are no section's, `neurons`, `models`."""
    names: list[str] = []
    for section in Config.__struct_fields__:
        before, after = getattr(old, section), getattr(new, section)
        if type(before) is type(after) and isinstance(before, Struct):
            fields = before.__struct_fields__
            names += [f"{section}.{name}" for name in fields if getattr(before, name) != getattr(after, name)]
        elif before != after:
            names.append(section)
    return names


def named(setting: str, names: Sequence[str]) -> bool:
    """Whether `setting`, or the section that it is in, is one of `names`."""
    return setting in names or setting.partition(".")[0] in names


def keeping(names: Sequence[str], old: Config, new: Config) -> Config:
    """`new` with the values that `old` has for `names`."""
    for setting in differing(old, new):
        section, _, name = setting.partition(".")
        if not named(setting, names):
            continue
        before = getattr(old, section)
        kept = structs.replace(getattr(new, section), **{name: getattr(before, name)}) if name else before
        new = structs.replace(new, **{section: kept})
    return new
