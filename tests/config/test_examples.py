"""The example files are valid and complete."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from msgspec import Struct

from cortex.config.loading import load_config
from cortex.config.profiles import Profile, load_profiles
from cortex.config.settings import Config

ROOT = Path(__file__).parents[2]


def test_the_example_config_says_the_defaults() -> None:
    """Every key that isn't commented out has its default value; only the neuron's entry is an example."""
    config = load_config(ROOT / "cortex.toml.example", {})
    assert config.neurons
    assert msgspec.structs.replace(config, neurons=[]) == Config()


@pytest.mark.parametrize(("name", "type_"), [("cortex.toml.example", Config), ("models.toml.example", Profile)])
def test_the_examples_name_every_key(name: str, type_: type[Struct]) -> None:
    said = set(re.findall(r"^(?:# )?(\w+) = ", (ROOT / name).read_text(), re.MULTILINE))
    missing = {field.name for section in sections(type_) for field in msgspec.structs.fields(section)} - said
    assert not missing, f"{name} doesn't show {sorted(missing)}"


def sections(type_: type[Struct]) -> list[type[Struct]]:
    """The structs whose keys have lines of their own: no inline tables, and no faults, which are for tests."""
    if type_ is not Config:
        return [type_]
    tables = [msgspec.inspect.type_info(field.type) for field in msgspec.structs.fields(Config)]
    structs = [table.item_type if isinstance(table, msgspec.inspect.ListType) else table for table in tables]
    return [struct.cls for struct in structs if isinstance(struct, msgspec.inspect.StructType)]


def test_the_example_profiles_are_valid() -> None:
    assert load_profiles(ROOT / "models.toml.example").get("default")
