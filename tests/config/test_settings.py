"""cortex.toml: layers, strictness, and messages that say what to do."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from msgspec import Struct

from cortex.config.loading import load_config
from cortex.config.profiles import Profile, load_profiles
from cortex.config.settings import Config, check_exposure, parse_bytes, split_listen
from cortex.errors import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "cortex.toml"
        path.write_text(text)
        return path

    return write


def test_without_a_file_the_defaults_hold() -> None:
    assert load_config(None, {}) == Config()
    assert Config().neuron.model_dirs == ["~/models"]


def test_flags_win_over_the_environment_and_the_environment_over_the_file(write) -> None:
    path = write('[gateway]\nlisten = "127.0.0.1:1"\ntries = 7\n[neuron]\nlisten = "127.0.0.1:1"\n')
    environment = {"CORTEX_GATEWAY__LISTEN": "127.0.0.1:2", "CORTEX_NEURON__LISTEN": "127.0.0.1:2"}
    config = load_config(path, environment, {"gateway.listen": "127.0.0.1:3", "gateway.default_model": None})
    assert (config.gateway.listen, config.neuron.listen) == ("127.0.0.1:3", "127.0.0.1:2")
    assert (config.gateway.tries, config.gateway.default_model) == (7, None)


@pytest.mark.parametrize(
    ("raw", "value"), [("[0, 1]", [0, 1]), ('["GPU-ab"]', ["GPU-ab"]), ("all", "all"), ('"none"', "none")]
)
def test_environment_values_are_toml_or_a_bare_word(raw: str, value: object) -> None:
    assert load_config(None, {"CORTEX_NEURON__GPUS": raw}).neuron.gpus == value


def test_variables_of_other_purposes_are_left_alone() -> None:
    assert load_config(None, {"CORTEX_URL": "http://x", "CORTEX_API_KEY": "k", "HOME": "/"}) == Config()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[gateway]\nlistn = 'x'", "gateway.listn: unknown key, did you mean listen?"),
        ("[gatway]", "gatway: unknown key, did you mean gateway?"),
        ("[gateway]\nzzz = 1", "gateway.zzz: unknown key"),
        ("[[neurons]]\nname = 'a'\nendpont = 'b'", "neurons[0].endpont: unknown key, did you mean endpoint?"),
        ("[[neurons]]\nname = 'a'", "missing required field `endpoint`"),
        ("[gateway]\ntries = 'three'", "gateway.tries: Expected `int`, got `str`"),
        (
            "[eviction]\nstrategy = 'fifo'",
            'eviction.strategy: Invalid enum value \'fifo\', expected "lru" or "priority"',
        ),
        ("[neuron]\ngpus = '0'", 'neuron.gpus: Invalid enum value \'0\', expected "all" or "none" or a list'),
        ("[neuron]\ncpu_memory = 'lots'", 'neuron.cpu_memory: not a size; write bytes or e.g. "2GiB"'),
        ("[neuron]\ndry_run_from = 'nevr'", "neuron.dry_run_from: not a size"),
        ("[neuron]\nmemory_margin = 5", "neuron.memory_margin: Expected `float` < 1.0"),
        ("[gateway]\nsilence_s = 0", "gateway.silence_s: Expected `float` > 0.0"),
        ("[admission]\nin_flight = 0", "admission.in_flight: Expected `int` >= 1"),
        ("[limits]\ndrain_s = -5", "limits.drain_s: Expected `float` >= 0.0"),
        ("[gateway\n", "cortex.toml"),
    ],
)
def test_a_mistake_is_named_with_file_path_and_remedy(write, text: str, message: str) -> None:
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, {})
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_a_mistake_in_the_environment_is_named_too() -> None:
    with pytest.raises(ConfigError, match=r"the environment: gateway\.listn: unknown key, did you mean listen"):
        load_config(None, {"CORTEX_GATEWAY__LISTN": "x"})


def test_a_variable_below_a_plain_value_is_refused(write) -> None:
    with pytest.raises(ConfigError, match="models is not a section"):
        load_config(write('models = "m.toml"'), {"CORTEX_MODELS__X": "1"})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: no such file"):
        load_config(tmp_path / "nowhere.toml", {})


def test_models_are_looked_for_beside_the_config(write, tmp_path: Path) -> None:
    assert load_config(write('models = "models.toml"'), {}).models == str(tmp_path / "models.toml")
    assert load_config(write('models = "/etc/m.toml"'), {}).models == "/etc/m.toml"


@pytest.mark.parametrize(
    ("text", "size"), [(5, 5), ("5", 5), ("2KiB", 2048), ("1.5 GiB", 3 << 29), ("500MB", 500_000_000), ("1k", 1000)]
)
def test_sizes(text: int | str, size: int) -> None:
    assert parse_bytes(text) == size


def test_a_dry_run_can_be_wanted_from_a_size_or_never(write) -> None:
    for said in ("never", "1.5 GiB"):
        assert load_config(write(f"[neuron]\ndry_run_from = '{said}'"), {}).neuron.dry_run_from == said


@pytest.mark.parametrize("text", ["", "big", "1.2.3", "5 apples", "-1", "."])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a size"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("listen", "parts"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:0", ("::1", 0)), ("box.internal:8080", ("box.internal", 8080))],
)
def test_listen_addresses(listen: str, parts: tuple[str, int]) -> None:
    assert split_listen(listen) == parts


@pytest.mark.parametrize("listen", ["", "80", ":80", "host", "host:", "host:http", "host:99999"])
def test_what_is_no_listen_address_is_refused(listen: str) -> None:
    with pytest.raises(ConfigError, match="is not host:port"):
        split_listen(listen)


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"])
def test_loopback_needs_no_keys(listen: str) -> None:
    check_exposure(listen, has_keys=False, insecure=False, section="gateway")


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "[::]:1", "192.168.1.5:1", "box.internal:1"])
def test_beyond_loopback_keys_or_an_explicit_word_are_needed(listen: str) -> None:
    check_exposure(listen, has_keys=True, insecure=False, section="gateway")
    check_exposure(listen, has_keys=False, insecure=True, section="gateway")
    with pytest.raises(ConfigError, match=r"write gateway\.insecure = true if you mean it"):
        check_exposure(listen, has_keys=False, insecure=False, section="gateway")


def test_the_example_config_says_the_defaults() -> None:
    """Every key that isn't commented out carries its default; the entry of a neuron is an example."""
    config = load_config(ROOT / "cortex.toml.example", {})
    assert config.neurons
    assert msgspec.structs.replace(config, neurons=[]) == Config()


@pytest.mark.parametrize(("name", "type_"), [("cortex.toml.example", Config), ("models.toml.example", Profile)])
def test_the_examples_name_every_key(name: str, type_: type[Struct]) -> None:
    said = set(re.findall(r"^(?:# )?(\w+) = ", (ROOT / name).read_text(), re.MULTILINE))
    missing = {field.name for section in sections(type_) for field in msgspec.structs.fields(section)} - said
    assert not missing, f"{name} doesn't show {sorted(missing)}"


def sections(type_: type[Struct]) -> list[type[Struct]]:
    """The structs whose keys stand on lines of their own: tables, not inline ones; the faults are for tests only."""
    if type_ is not Config:
        return [type_]
    tables = [msgspec.inspect.type_info(field.type) for field in msgspec.structs.fields(Config)]
    structs = [table.item_type if isinstance(table, msgspec.inspect.ListType) else table for table in tables]
    return [struct.cls for struct in structs if isinstance(struct, msgspec.inspect.StructType)]


def test_the_example_profiles_are_valid() -> None:
    assert load_profiles(ROOT / "models.toml.example").get("default")
