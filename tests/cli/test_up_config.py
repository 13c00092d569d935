"""The files that `cortex up` writes for its roles are read back with the same values."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from cortex.cli.up_config import complete, demo_profile, to_toml, write
from cortex.config.loading import load_config
from cortex.config.profiles import Limit, Profile, Profiles, load_profiles
from cortex.config.settings import AuthConfig, Config, GatewayConfig, NeuronConfig, NeuronEntry
from cortex.wire.inference import Sampling


def test_a_config_survives_toml(tmp_path: Path) -> None:
    config = Config(
        auth=AuthConfig(keys={"sk-ü😀\n\"'": "me"}),
        neurons=[NeuronEntry(name="a", endpoint="http://a", token="t")],
        neuron=NeuronConfig(gpus=[0, "GPU-1"], offline=True, memory_margin=0.5, model_dirs=[]),
    )
    path = tmp_path / "c.toml"
    path.write_text(to_toml(config))
    assert load_config(path, {}) == config


def test_profiles_survive_toml(tmp_path: Path) -> None:
    limit, sampling = Limit(output=5), Sampling(temperature=0.0, logit_bias={7: -1.5})
    profiles = Profiles(models=[Profile(id="a", limit=limit, sampling=sampling, template_kwargs={"thinking": False})])
    path = tmp_path / "m.toml"
    path.write_text(to_toml(profiles))
    assert load_profiles(path).models == profiles.models


def test_ports_left_to_the_system_are_chosen_for_both_roles_to_know() -> None:
    listen = "[::1]:0" if has_ipv6() else "127.0.0.1:0"
    config = Config(gateway=GatewayConfig(listen="127.0.0.1:0"), neuron=NeuronConfig(listen=listen))
    completed = complete(config, "token")
    assert not completed.gateway.listen.endswith(":0")
    assert completed.neurons[0].endpoint == f"http://{completed.neuron.listen}"
    assert completed.neurons[0].token is None


def has_ipv6() -> bool:
    """Many containers have none."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_a_gateway_on_every_address_reaches_its_neuron_by_loopback() -> None:
    config = Config(neuron=NeuronConfig(listen="0.0.0.0:13131"))
    assert complete(config, "token").neurons[0].endpoint == "http://127.0.0.1:13131"


@pytest.mark.parametrize("keys", [{"k": "me"}, ["k"]])
def test_with_keys_the_gateway_gets_one_of_its_own(keys: dict[str, str] | list[str]) -> None:
    completed = complete(Config(auth=AuthConfig(keys=keys)), "token")
    assert set(completed.auth.keys) == {"k", "token"}
    assert completed.neurons[0].token == "token"


def test_other_neurons_stay_in_the_fleet() -> None:
    beast = NeuronEntry(name="beast", endpoint="http://beast:13131")
    assert [entry.name for entry in complete(Config(neurons=[beast]), "t").neurons] == ["local", "beast"]


def test_the_demo_model_is_offered_beside_the_users_profiles(tmp_path: Path) -> None:
    demo = demo_profile()
    assert demo is not None
    files = write(Config(), Profiles(models=[Profile(id="mine")]), tmp_path)
    assert [profile.id for profile in load_profiles(tmp_path / "models.toml").models] == ["mine", demo.id]
    assert load_config(files.config, {}).models == str(tmp_path / "models.toml")


def test_a_users_profile_of_the_demo_model_wins(tmp_path: Path) -> None:
    demo = demo_profile()
    assert demo is not None
    write(Config(), Profiles(models=[Profile(id="x", aliases=[demo.id])]), tmp_path)
    assert [profile.id for profile in load_profiles(tmp_path / "models.toml").models] == ["x"]
