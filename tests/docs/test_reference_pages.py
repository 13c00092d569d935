"""The generated pages are what the code says, and the example files that they are made from are complete."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from cortex.cli.output import EXIT_CODES
from cortex.config.profiles import Profile
from cortex.config.settings import FaultsConfig
from tests.docs.blocks import DOCS, ROOT
from tests.docs.generators import generator

PAGES = generator("write").PAGES


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_what_the_code_says(name: str) -> None:
    assert (DOCS / "reference" / name).read_text() == PAGES[name](), "run `make docs`"


@pytest.mark.parametrize("name", ["cortex.toml.example", "models.toml.example"])
def test_every_setting_has_a_description_and_is_named_once(name: str) -> None:
    groups = generator("config_page").described(name)
    settings = [(group.section, setting) for group in groups for setting in group.settings]
    assert not [setting.key for _, setting in settings if not setting.description]
    names = [(section, setting.key) for section, setting in settings]
    assert len(names) == len(set(names))
    shown = set(re.findall(r"^(?:# )?(\w+) = ", (ROOT / name).read_text(), re.MULTILINE))
    assert shown == {key for _, key in names}


def test_every_key_of_a_profile_is_on_its_page() -> None:
    page = (DOCS / "reference" / "model-profiles.md").read_text()
    assert not [field.name for field in msgspec.structs.fields(Profile) if f"| `{field.name}` |" not in page]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('listen = "a:1"  # where', ("listen", '"a:1"', "where")),
        ('# models = "m.toml"            # profiles; relative', ("models", '"m.toml"', "profiles; relative")),
        ("batch = 2048", ("batch", "2048", "")),
        ('url = "http://a" # where', ("url", '"http://a"', "where")),
    ],
)
def test_a_setting_is_read_with_its_description(line: str, expected: tuple[str, str, str]) -> None:
    (group,) = generator("example_file").groups(f"[section]   # a note\n{line}\n")
    assert (group.section, group.note) == ("section", "a note")
    (setting,) = group.settings
    assert (setting.key, setting.value, setting.description) == expected


def test_a_second_entry_of_a_list_is_left_out() -> None:
    groups = generator("example_file").groups("[[a]]\nx = 1  # one\n\n# [[a]]\n# x = 2\n[b]\ny = 1  # two\n")
    assert [(group.section, [setting.value for setting in group.settings]) for group in groups] == [
        ("a", ["1"]),
        ("b", ["1"]),
    ]


def test_every_command_and_exit_code_is_described() -> None:
    page = generator("cli_page")
    assert {kind.__name__ for kind, _ in EXIT_CODES} == set(page.MEANINGS)
    for name, command in page.commands():
        assert command.__doc__, name
        assert not [each.name for each in page.parameters(command) if not each.info.help], name


def test_switches_are_as_the_command_line_takes_them() -> None:
    page = generator("cli_page")
    commands: dict[str, Any] = dict(page.commands())
    switches = {each.name: each.switches for each in page.parameters(commands["cortex bench"])}
    assert switches["model"] == ["--model", "-m"]
    assert switches["ignore_eos"] == ["--ignore-eos", "--no-ignore-eos"]
    assert switches["as_json"] == ["--json"]
    assert next(each.switches for each in page.parameters(commands["cortex plan"])) == []


def test_the_documents_leave_out_defaults_as_their_page_says() -> None:
    page = generator("documents_page")
    structs = page._all(list(page.ROUTES.values()))
    assert not [struct.__name__ for struct in structs if not struct.__struct_config__.omit_defaults]


def test_the_fault_switches_are_in_the_page_about_testing() -> None:
    page = (DOCS / "explanation" / "testing.md").read_text()
    assert not [field.name for field in msgspec.structs.fields(FaultsConfig) if f"`{field.name}`" not in page]
