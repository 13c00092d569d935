"""The client against a gateway, a neuron without a gateway, and a server that is away."""

from __future__ import annotations

import pytest

from cortex.errors import BadRequest, ConfigError, ModelNotFound, Unauthorized, Unavailable
from cortex.operator.client import FleetApi, server_url
from tests.top.fake_gateway import fake_gateway
from tests.top.fleets import fleet


def test_the_fleet_document_is_decoded() -> None:
    with fake_gateway() as gateway:
        assert FleetApi(gateway.url).fleet() == fleet()


def test_a_neuron_alone_is_a_fleet_of_one_and_takes_orders() -> None:
    with fake_gateway(alone=True) as gateway:
        assert [neuron.name for neuron in FleetApi(gateway.url).fleet().neurons] == ["beast"]
        FleetApi(gateway.url).unload("phi-4")
        FleetApi(gateway.url).load("phi-4")
        assert gateway.orders == [("POST", "/models/unload"), ("POST", "/models/load")]


def test_orders_that_need_a_gateway_are_refused_for_a_neuron_alone() -> None:
    with fake_gateway(alone=True) as gateway:
        api = FleetApi(gateway.url)
        for order in (
            lambda: api.pin("m", True),
            lambda: api.drain("n", True),
            lambda: api.plan("m"),
            lambda: api.cancel("r"),
        ):
            with pytest.raises(BadRequest, match="a gateway is needed"):
                order()
        assert gateway.orders == []


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("http://h:1/", "http://h:1"),
        ("http://h:1/v1", "http://h:1"),
        ("https://h/v1/", "https://h"),
        ("h:31313", "http://h:31313"),
    ],
)
def test_a_server_may_be_given_without_scheme_or_with_v1(written: str, url: str) -> None:
    assert server_url(written) == url


def test_an_invalid_url_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="not a URL"):
        FleetApi("http://[::1")


def test_errors_have_the_servers_message() -> None:
    with fake_gateway() as gateway, pytest.raises(ModelNotFound, match="there are: a, b"):
        FleetApi(gateway.url).unload("nowhere")


def test_a_missing_key_is_unauthorized() -> None:
    with fake_gateway(key="secret") as gateway:
        with pytest.raises(Unauthorized):
            FleetApi(gateway.url).fleet()
        assert FleetApi(gateway.url, "secret").fleet() == fleet()


def test_an_unreachable_gateway_is_unavailable() -> None:
    with fake_gateway() as gateway:
        url = gateway.url
    with pytest.raises(Unavailable, match="can't be reached"):
        FleetApi(url).fleet()
