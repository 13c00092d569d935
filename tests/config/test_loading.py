"""cortex.toml, environment and flags: precedence, strictness, and messages that say what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from cortex.config.loading import load_config
from cortex.config.settings import Config
from cortex.errors import ConfigError


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
def test_environment_values_are_toml_or_a_string(raw: str, value: object) -> None:
    assert load_config(None, {"CORTEX_NEURON__GPUS": raw}).neuron.gpus == value


@pytest.mark.parametrize(
    ("variable", "raw", "value"),
    [
        ("GATEWAY__INSECURE", "1", True),
        ("GATEWAY__INSECURE", "True", True),
        ("GATEWAY__INSECURE", "TRUE", True),
        ("NEURON__HUGGINGFACE_CACHE", "0", False),
        ("NEURON__HUGGINGFACE_CACHE", "no", False),
        ("LOG__LEVEL", "INFO", "info"),
        ("LOG__LEVEL", "Warning", "warning"),
        ("LOG__FORMAT", "JSON", "json"),
        ("EVICTION__STRATEGY", "LRU", "lru"),
        ("AUTH__KEYS", "sk-abc", ["sk-abc"]),
        ("AUTH__KEYS", "sk-abc, sk-def", ["sk-abc", "sk-def"]),
        ("AUTH__KEYS", "12345", ["12345"]),
        ("AUTH__KEYS", '["sk-abc"]', ["sk-abc"]),
        ("AUTH__KEYS", '{ "sk-abc" = "me" }', {"sk-abc": "me"}),
        ("NEURON__GPUS", "0", [0]),
        ("NEURON__GPUS", "0,1", [0, 1]),
        ("NEURON__GPUS", "ALL", "all"),
        ("NEURON__GPUS", "GPU-ab", ["GPU-ab"]),
        ("NEURON__MODEL_DIRS", "/data/models", ["/data/models"]),
        ("NEURON__NAME", "42", "42"),
        ("NEURON__NAME", "true", "true"),
        ("GATEWAY__DEFAULT_MODEL", "1e5", "1e5"),
        ("NEURON__HOST_CACHE", "0", 0),
        ("NEURON__HOST_CACHE", "2GiB", "2GiB"),
        ("NEURON__THREADS", "8", 8),
        ("LIMITS__DRAIN_S", "5", 5.0),
    ],
)
def test_an_environment_value_is_read_by_the_type_of_its_key(variable: str, raw: str, value: object) -> None:
    """`CORTEX_LOG__LEVEL=INFO`, `…INSECURE=1` and a lone key ended the start with an error."""
    section, key = variable.lower().split("__")
    found = getattr(getattr(load_config(None, {f"CORTEX_{variable}": raw}), section), key)
    assert (found, type(found)) == (value, type(value))


def test_an_environment_value_of_no_use_is_shown_as_it_was_written() -> None:
    with pytest.raises(ConfigError, match=r"log\.level: Invalid enum value 'LOUD'"):
        load_config(None, {"CORTEX_LOG__LEVEL": "LOUD"})
    with pytest.raises(ConfigError, match=r"gateway\.insecure: Expected `bool`, got `int`"):
        load_config(None, {"CORTEX_GATEWAY__INSECURE": "2"})


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
def test_an_error_names_file_path_and_remedy(write, text: str, message: str) -> None:
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, {})
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_an_error_in_the_environment_names_it() -> None:
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


def test_a_keys_file_is_looked_for_beside_the_config(write, tmp_path: Path) -> None:
    """It was looked for in the working directory, which is / for a service."""
    assert load_config(write('[auth]\nkeys_file = "keys"'), {}).auth.keys_file == str(tmp_path / "keys")
    assert load_config(write('[auth]\nkeys_file = "/etc/keys"'), {}).auth.keys_file == "/etc/keys"
    assert load_config(None, {"CORTEX_AUTH__KEYS_FILE": "keys"}).auth.keys_file == "keys"


def test_dry_run_from_is_a_size_or_never(write) -> None:
    for said in ("never", "1.5 GiB"):
        assert load_config(write(f"[neuron]\ndry_run_from = '{said}'"), {}).neuron.dry_run_from == said
