"""models.toml: nested tables, strictness, and names that belong to one model each."""

from __future__ import annotations

from pathlib import Path

import pytest

from cortex.config.profiles import Profiles, load_profiles
from cortex.errors import ConfigError


@pytest.fixture
def load(tmp_path: Path):
    def load(text: str) -> Profiles:
        path = tmp_path / "models.toml"
        path.write_text(text)
        return load_profiles(path)

    return load


def test_without_a_file_there_are_no_profiles() -> None:
    assert load_profiles(None) == Profiles()


def test_a_profile_is_found_by_id_and_alias(load) -> None:
    profiles = load('[[models]]\nid = "a"\naliases = ["default"]\n[[models]]\nid = "b"')
    assert profiles.get("default") is profiles.get("a")
    assert profiles.get("b").id == "b"
    assert profiles.get("c") is None


def test_nested_tables_are_read(load) -> None:
    text = '[[models]]\nid = "a"\nlimit.output = 5\ncost = { input = 1.5 }\nsampling = { temperature = 0.7 }'
    (profile,) = load(text).models
    assert (profile.limit.output, profile.cost.input, profile.sampling.temperature) == (5, 1.5, 0.7)


@pytest.mark.parametrize(
    "text",
    [
        '[[models]]\nid = "a"\naliases = ["x"]\n[[models]]\nid = "b"\naliases = ["x"]',
        '[[models]]\nid = "a"\naliases = ["b"]\n[[models]]\nid = "b"',
    ],
)
def test_a_name_claimed_twice_is_refused(load, text: str) -> None:
    with pytest.raises(ConfigError, match="is claimed by both 'a' and 'b'"):
        load(text)


def test_an_id_given_twice_is_refused(load) -> None:
    with pytest.raises(ConfigError, match="an id occurs twice"):
        load('[[models]]\nid = "a"\n[[models]]\nid = "a"')


def test_an_unknown_key_is_refused_with_the_nearest_one(load) -> None:
    with pytest.raises(ConfigError, match=r"models\[0\]\.contxt: unknown key, did you mean context\?"):
        load('[[models]]\nid = "a"\ncontxt = 5')


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("context = 0", r"models\[0\]\.context: Expected `int` >= 1"),
        ('context = "most"', r"""context: Invalid enum value 'most', expected a number or "auto\""""),
        ('host_cache = "lots"', r"models\[0\]\.host_cache: not a size"),
        ('cache_type_k = "q9_0"', r"models\[0\]\.cache_type_k: Invalid enum value 'q9_0', expected \"f32\" or \"f16\""),
        ("tensor_split = [-1.0, 1.0]", r"models\[0\]\.tensor_split\[0\]: Expected `float` >= 0"),
        ("devices = [-1]", r"models\[0\]\.devices\[0\]: Expected `int` >= 0"),
        ("replicas = { max = 0 }", r"models\[0\]\.replicas\.max: Expected `int` >= 1"),
    ],
)
def test_an_invalid_value_is_refused(load, line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(f'[[models]]\nid = "a"\n{line}')


def test_home_is_resolved_in_file_names(load) -> None:
    (profile,) = load('[[models]]\nid = "a"\nfile = "~/m.gguf"').models
    assert profile.file == str(Path.home() / "m.gguf")
