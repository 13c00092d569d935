from __future__ import annotations

import pytest

from cortex.errors import ModelNotFound, Unauthorized, Unavailable
from cortex.top.api import FleetApi
from cortex.top.app import perform
from cortex.top.model import Action
from tests.top.fake_gateway import fake_gateway
from tests.top.fleets import fleet


def test_the_fleet_arrives_as_it_was_sent() -> None:
    with fake_gateway() as gateway:
        assert FleetApi(gateway.url).fleet() == fleet()


def test_a_neuron_alone_is_a_fleet_of_one_and_takes_orders() -> None:
    with fake_gateway(alone=True) as gateway:
        api = FleetApi(gateway.url)
        assert [neuron.name for neuron in api.fleet().neurons] == ["beast"]
        api.unload("phi-4")
        assert gateway.orders == [("POST", "/models/unload")]


def test_errors_carry_the_servers_words() -> None:
    with fake_gateway() as gateway, pytest.raises(ModelNotFound, match="there are: a, b"):
        FleetApi(gateway.url).unload("nowhere")


def test_a_missing_key_is_told_as_such() -> None:
    with fake_gateway(key="secret") as gateway:
        with pytest.raises(Unauthorized):
            FleetApi(gateway.url).fleet()
        assert FleetApi(gateway.url, "secret").fleet() == fleet()


def test_an_unreachable_gateway_is_unavailable() -> None:
    with fake_gateway() as gateway:
        url = gateway.url
    with pytest.raises(Unavailable, match="can't be reached"):
        FleetApi(url).fleet()


@pytest.mark.parametrize(
    ("kind", "target", "order"),
    [
        ("unload", "Qwen/Qwen3.6-27B-GGUF", ("POST", "/fleet/models/Qwen/Qwen3.6-27B-GGUF/unload")),
        ("load", "a b", ("POST", "/fleet/models/a%20b/load")),
        ("pin", "m", ("POST", "/fleet/models/m/pin")),
        ("unpin", "m", ("POST", "/fleet/models/m/unpin")),
        ("drain", "beast", ("POST", "/fleet/neurons/beast/drain")),
        ("resume", "beast", ("POST", "/fleet/neurons/beast/resume")),
        ("cancel", "chatcmpl-1", ("DELETE", "/fleet/requests/chatcmpl-1")),
    ],
)
def test_each_action_is_one_order(kind: str, target: str, order: tuple[str, str]) -> None:
    with fake_gateway() as gateway:
        perform(FleetApi(gateway.url), Action(kind, target, ""))  # type: ignore[arg-type]
        assert gateway.orders == [order]
