"""What `cortex up` adds to the user's configuration, at the start and at every reload."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec
import pytest

from cortex.cli.up_config import complete, completion, demo_profile, make_plan
from cortex.config.profiles import Profile, Profiles
from cortex.config.settings import AuthConfig, Config, GatewayConfig, NeuronConfig, NeuronEntry


def completed_once(config: Config) -> Config:
    return complete(config, make_plan(config, "token"))


def test_ports_left_to_the_system_are_chosen_for_both_roles_to_know() -> None:
    listen = "[::1]:0" if has_ipv6() else "127.0.0.1:0"
    config = Config(gateway=GatewayConfig(listen="127.0.0.1:0"), neuron=NeuronConfig(listen=listen))
    completed = completed_once(config)
    assert not completed.gateway.listen.endswith(":0")
    assert completed.neurons[0].endpoint == f"http://{completed.neuron.listen}"
    assert not completed.auth.keys


def has_ipv6() -> bool:
    """Many containers have none."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_a_gateway_on_every_address_reaches_its_neuron_by_loopback() -> None:
    config = Config(neuron=NeuronConfig(listen="0.0.0.0:13131"))
    assert completed_once(config).neurons[0].endpoint == "http://127.0.0.1:13131"


@pytest.mark.parametrize("keys", [{"k": "me"}, ["k"]])
def test_with_keys_the_gateway_gets_one_of_its_own(keys: dict[str, str] | list[str]) -> None:
    completed = completed_once(Config(auth=AuthConfig(keys=keys)))
    assert set(completed.auth.keys) == {"k", "token"}
    assert completed.neurons[0].token == "token"


def test_other_neurons_stay_in_the_fleet() -> None:
    beast = NeuronEntry(name="beast", endpoint="http://beast:13131")
    assert [entry.name for entry in completed_once(Config(neurons=[beast])).neurons] == ["local", "beast"]


def read_by_a_role(config: Config, profiles: Profiles, directory: Path) -> tuple[Config, Profiles]:
    file = directory / "up.json"
    file.write_bytes(msgspec.json.encode(make_plan(config)))
    finish = completion(file)
    file.unlink()  # whoever cleans /tmp does not end the reloads
    return finish(config, profiles)


def test_the_demo_model_is_offered_beside_the_users_profiles(tmp_path: Path) -> None:
    demo = demo_profile()
    assert demo is not None
    _, profiles = read_by_a_role(Config(), Profiles(models=[Profile(id="mine")]), tmp_path)
    assert [profile.id for profile in profiles.models] == ["mine", demo.id]


def test_a_users_profile_of_the_demo_model_wins(tmp_path: Path) -> None:
    demo = demo_profile()
    assert demo is not None
    _, profiles = read_by_a_role(Config(), Profiles(models=[Profile(id="x", aliases=[demo.id])]), tmp_path)
    assert [profile.id for profile in profiles.models] == ["x"]


def test_what_was_decided_at_the_start_holds_at_every_reload() -> None:
    """Ports that the system chose, the neuron's address and its key: a gateway that is told others loses its neuron."""
    config = Config(gateway=GatewayConfig(listen="127.0.0.1:0"), neuron=NeuronConfig(listen="127.0.0.1:0"))
    plan = make_plan(config)
    first = complete(config, plan)
    with_keys = complete(msgspec.structs.replace(config, auth=AuthConfig(keys=["k"])), plan)
    assert complete(config, plan) == first
    assert (with_keys.neurons, with_keys.gateway.listen) == (first.neurons, first.gateway.listen)
    moved = msgspec.structs.replace(config, neuron=NeuronConfig(listen="127.0.0.1:7", name="other"))
    assert complete(moved, plan).neurons == first.neurons
    assert complete(moved, plan).neuron.listen == "127.0.0.1:7"
