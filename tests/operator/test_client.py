from __future__ import annotations

import msgspec
import pytest

from cortex.errors import BadRequest, ConfigError, ModelNotFound, Unauthorized, Unavailable
from cortex.operator.client import FleetApi, job_after, server_url
from cortex.top.app import perform
from cortex.top.model import Action
from cortex.wire.fleet import FleetModel, FleetStatus
from cortex.wire.status import LoadJob, ModelStatus
from tests.top.fake_gateway import fake_gateway
from tests.top.fleets import beast as beast_status
from tests.top.fleets import fleet, model


def test_the_fleet_arrives_as_it_was_sent() -> None:
    with fake_gateway() as gateway:
        assert FleetApi(gateway.url).fleet() == fleet()


def test_a_neuron_alone_is_a_fleet_of_one_and_takes_orders() -> None:
    with fake_gateway(alone=True) as gateway:
        assert [neuron.name for neuron in FleetApi(gateway.url).fleet().neurons] == ["beast"]
        FleetApi(gateway.url).unload("phi-4")
        FleetApi(gateway.url).load("phi-4")
        assert gateway.orders == [("POST", "/models/unload"), ("POST", "/models/load")]


def test_a_neuron_alone_says_what_takes_a_gateway() -> None:
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
def test_a_server_may_be_written_as_people_do(written: str, url: str) -> None:
    assert server_url(written) == url


def test_what_is_no_url_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="no URL"):
        FleetApi("http://[::1")


def with_counts(*statuses: ModelStatus, **counts: object) -> FleetStatus:
    base = fleet()
    beast = msgspec.structs.replace(base.neurons[0], status=msgspec.structs.replace(beast_status(), models=[*statuses]))
    return msgspec.structs.replace(base, neurons=[beast], models=[FleetModel("phi-4", **counts)])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "state", "words"),
    [
        (with_counts(model("phi-4", state="ready")), "ready", ""),
        (with_counts(model("phi-4", state="loading", stage="weights")), "loading", "weights"),
        (with_counts(model("phi-4"), waiting_loads=["j1"]), "loading", "waits for room"),
        (with_counts(model("phi-4", state="unloading"), waiting_loads=["j1"]), "loading", "waits for room"),
        (with_counts(model("phi-4")), "failed", "no room came free"),
        (with_counts(model("phi-4"), last_error="out of memory"), "failed", "out of memory"),
        (with_counts(model("phi-4", state="failed", error="no GGUF")), "failed", "no GGUF"),
        (with_counts(), "failed", "no room came free"),
    ],
)
def test_a_load_ends_when_nobody_carries_it_out_any_more(seen: FleetStatus, state: str, words: str) -> None:
    """A load that waited in vain for room was watched for ever."""
    job = job_after(LoadJob("j1", "phi-4", "loading"), seen)
    assert job.state == state
    assert words in (job.error or job.stage)


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
