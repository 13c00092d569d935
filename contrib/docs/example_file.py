"""Reads the descriptions of settings from an example file: cortex.toml.example, models.toml.example. Pure.

The lines of an example file are `[section]`, `[[list]]`, `key = value  # description` (commented out where the key has
no default) and, within a section, `# title` in front of a group of keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Group", "Setting", "groups"]

_SECTION = re.compile(r"(?:# )?\[+(?P<name>\w+)\]+(?:\s+# (?P<note>.*))?")
_SETTING = re.compile(r"(?:# )?(?P<key>[a-z]\w*) = (?P<value>.+?)(?:\s{2,}# (?P<text>.*)|\s# (?P<close>.*))?")
_TITLE = re.compile(r"# (?P<title>[a-z].*)")


@dataclass(frozen=True, slots=True)
class Setting:
    """One key; `value` is the example's, as TOML."""

    key: str
    value: str
    description: str


@dataclass(frozen=True, slots=True)
class Group:
    """The settings of `section` ("" = the top of the file) under one `title` ("" = the section's own)."""

    section: str
    title: str
    note: str
    settings: list[Setting]


def groups(text: str) -> Iterator[Group]:
    """The groups in the file's order. A section's second appearance is an example of use and left out."""
    group, seen = Group("", "", "", []), set()
    for line in text.splitlines():
        if section := _SECTION.fullmatch(line):
            yield from _unless_seen(group, seen)
            group = Group(section["name"], "", section["note"] or "", [])
        elif setting := _SETTING.fullmatch(line):
            group.settings.append(Setting(setting["key"], setting["value"], setting["text"] or setting["close"] or ""))
        elif group.section and (title := _TITLE.fullmatch(line)):
            yield from _unless_seen(group, seen)
            group = Group(group.section, title["title"], "", [])
    yield from _unless_seen(group, seen)


def _unless_seen(group: Group, seen: set[tuple[str, str]]) -> Iterator[Group]:
    if group.settings and (group.section, group.title) not in seen:
        yield group
    seen.add((group.section, group.title))
