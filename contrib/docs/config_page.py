"""Makes docs/reference/config.md and docs/reference/model-profiles.md (`make docs`).

Keys, types, bounds and defaults come from the structs that read the files, descriptions from the example files.
tests/docs/test_reference_pages.py keeps the pages equal to this output and the examples complete.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from example_file import Group, Setting, groups
from msgspec import Struct, inspect

from cortex.config.profiles import Profile
from cortex.config.settings import Config

__all__ = ["described", "document", "profile_document"]

ROOT = Path(__file__).parents[2]

HEAD = """# cortex.toml

Made by `make docs` from the code and `cortex.toml.example`; don't edit.

Gateway and neuron read the same file and use the sections they need. Without a file the defaults apply. The sources, in
order of precedence: command-line flags, environment variables, the file, the defaults. The environment variable of
`listen` in `[gateway]` is `CORTEX_GATEWAY__LISTEN`; its value is read as TOML where it is valid TOML (`8`, `true`,
`[0, 1]`), else as a string. Times are in seconds. A size is a number of bytes or a string with a unit: `"64MiB"`,
`"2GB"`.

With an unknown key, a wrong type or a number out of bounds the program exits with code 2 and a message that names the
file, the key and the nearest valid key. `models` is relative to the file, other file names to the working directory.
"""

PROFILES_HEAD = """# models.toml

Made by `make docs` from the code and `models.toml.example`; don't edit.

The file holds one `[[models]]` entry, a profile, for each model that is not to be served with the defaults. It is named
by `models` in cortex.toml or by the option `--models`. The keys of a profile:
"""


def document() -> str:
    """The page of cortex.toml."""
    return "\n".join([HEAD, *_sections()])


def profile_document() -> str:
    """The page of models.toml."""
    lines = [PROFILES_HEAD]
    for group in described("models.toml.example"):
        title, _, note = (group.title or "model").partition(": ")
        lines += [f"## {title.capitalize()}\n", *([_sentence(note)] if note else []), *_table(group.settings, Profile)]
    return "\n".join(lines)


def described(name: str) -> list[Group]:
    """The groups of settings of an example file in the project's root."""
    return list(groups((ROOT / name).read_text()))


def _sections() -> Iterator[str]:
    for group in described("cortex.toml.example"):
        struct = _struct_of(group.section)
        assert struct is not None, group.section
        brackets = f"[[{group.section}]]" if _is_list(group.section) else f"[{group.section}]"
        yield f"## `{brackets}`\n" if group.section else "## Top level\n"
        if group.note:
            yield _sentence(group.note)
        yield from _table(group.settings, struct)


def _sentence(note: str) -> str:
    return f"{note[0].upper()}{note[1:].rstrip('.')}.\n"


def _table(settings: list[Setting], struct: type[Struct]) -> Iterator[str]:
    fields = {field.encode_name: field for field in inspect.type_info(struct).fields}  # type: ignore[attr-defined]
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    for setting in settings:
        field = fields[setting.key]
        cells = (f"`{setting.key}`", type_text(field.type), _default(field), setting.description)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""


def _struct_of(section: str) -> type[Struct] | None:
    if not section:
        return Config
    info = next(field.type for field in _config_fields() if field.encode_name == section)
    info = info.item_type if isinstance(info, inspect.ListType) else info
    return info.cls if isinstance(info, inspect.StructType) else None


def _is_list(section: str) -> bool:
    return any(field.encode_name == section and isinstance(field.type, inspect.ListType) for field in _config_fields())


def _config_fields() -> tuple[inspect.Field, ...]:
    info = inspect.type_info(Config)
    assert isinstance(info, inspect.StructType)
    return info.fields


def type_text(info: inspect.Type) -> str:
    """A type in words, with its bounds: `number > 0`, `"lru"` or `"priority"`, list of strings."""
    match info:
        case inspect.BoolType():
            return "boolean"
        case inspect.IntType() | inspect.FloatType():
            return _number(info)
        case inspect.StrType():
            return "size" if info.pattern and "never" not in info.pattern else "string"
        case inspect.LiteralType():
            return ", ".join(f"`{json.dumps(value)}`" for value in info.values)
        case inspect.ListType():
            return f"list of {_plural(type_text(info.item_type))}"
        case inspect.DictType():
            return "table"
        case inspect.StructType():
            keys = [field.encode_name for field in info.fields]
            return f"table: {', '.join(f'`{key}`' for key in keys)}"
        case inspect.UnionType():
            return _union([kind for kind in info.types if not isinstance(kind, inspect.NoneType)])
        case _:
            return "any"


def _number(info: inspect.IntType | inspect.FloatType) -> str:
    bounds = [("≥", info.ge), (">", info.gt), ("<", info.lt)]
    words = " and ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)
    return f"{'integer' if isinstance(info, inspect.IntType) else 'number'} {words}".strip()


def _union(kinds: list[inspect.Type]) -> str:
    pattern = next((kind.pattern for kind in kinds if isinstance(kind, inspect.StrType) and kind.pattern), None)
    if pattern:  # sizes: a number of bytes or a string with a unit
        return 'size or `"never"`' if "never" in pattern else "size"
    return " or ".join(type_text(kind) for kind in kinds)


def _plural(word: str) -> str:
    """`integers ≥ 0 or strings` of `integer ≥ 0 or string`."""
    return " or ".join(re.sub(r"^(string|integer|number)", r"\1s", part) for part in word.split(" or "))


def _default(field: inspect.Field) -> str:
    if field.required:
        return "required"
    value: Any = field.default
    if field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    value = msgspec.to_builtins(value)
    return "–" if value is None or value == {} else f"`{json.dumps(value)}`"
