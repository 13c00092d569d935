"""The operator's commands against a fake gateway."""

from __future__ import annotations

import msgspec
import pytest
import typer
from typer.testing import CliRunner, Result

from cortex.cli.fleet import register
from cortex.wire.fleet import FleetStatus
from tests.top.fake_gateway import FakeGateway, fake_gateway
from tests.top.fleets import fleet


def run(gateway: FakeGateway, *arguments: str) -> Result:
    app = typer.Typer()
    register(app)
    environment = {"CORTEX_URL": gateway.url, "COLUMNS": "200", "NO_COLOR": "1"}
    return CliRunner().invoke(app, list(arguments), env=environment)


def test_status_lists_neurons_devices_and_models() -> None:
    with fake_gateway() as gateway:
        result = run(gateway, "status")
    assert result.exit_code == 0
    assert "beast" in result.stdout
    assert "cuda0" in result.stdout
    assert "Qwen/Qwen3.6-27B-GGUF" in result.stdout
    assert "connection refused" in result.stdout


def test_status_as_json_is_the_whole_document() -> None:
    with fake_gateway() as gateway:
        result = run(gateway, "status", "--json")
    assert msgspec.json.decode(result.stdout, type=FleetStatus) == fleet()


def test_plan_shows_the_verdict_and_the_reason() -> None:
    with fake_gateway() as gateway:
        result = run(gateway, "plan", "m")
    assert "fits" in result.stdout
    assert "4 GiB free" in result.stdout


def test_load_waits_until_the_model_is_ready() -> None:
    with fake_gateway() as gateway:
        result = run(gateway, "load", "Qwen/Qwen3.6-27B-GGUF")
    assert result.exit_code == 0
    assert "is ready" in result.stdout


@pytest.mark.parametrize("command", ["unload", "pin", "unpin"])
def test_an_unknown_model_exits_4_with_the_servers_message(command: str) -> None:
    with fake_gateway() as gateway:
        result = run(gateway, command, "nowhere")
    assert result.exit_code == 4
    assert "there are: a, b" in result.stderr


@pytest.mark.parametrize("order", [["unload", "m"], ["pin", "m"], ["unpin", "m"], ["drain", "m"], ["resume", "m"]])
def test_an_order_prints_what_it_did_or_the_answer_as_json(order: list[str]) -> None:
    with fake_gateway() as gateway:
        said = run(gateway, *order).stdout
        assert said.startswith("m ")
        assert said.count("\n") == 1
        assert msgspec.json.decode(run(gateway, *order, "--json").stdout) == {}


def test_a_load_that_nobody_carries_out_exits_6() -> None:
    with fake_gateway() as gateway:
        result = run(gateway, "load", "phi-4")
    assert result.exit_code == 6
    assert "phi-4 did not load" in result.stderr


def test_an_unreachable_gateway_exits_3() -> None:
    with fake_gateway() as gateway:
        pass
    result = run(gateway, "status")
    assert result.exit_code == 3
    assert gateway.url in result.stderr


def test_top_once_prints_a_frame() -> None:
    with fake_gateway() as gateway:
        result = run(gateway, "top", "--once")
    assert result.exit_code == 0
    assert "beast" in result.stdout


def test_top_without_a_terminal_says_what_to_use_instead() -> None:
    with fake_gateway() as gateway:
        result = run(gateway, "top")
    assert result.exit_code == 2
    assert "--once" in result.stderr


def test_status_says_why_something_does_not_work() -> None:
    with fake_gateway() as gateway:
        lines = run(gateway, "status").stdout.splitlines()
    assert "attic is down: connection refused" in lines
    assert "smollm2-135m on beast: not a GGUF file" in lines


def test_a_neuron_alone_takes_orders_but_no_pins() -> None:
    with fake_gateway(alone=True) as gateway:
        assert run(gateway, "unload", "phi-4").exit_code == 0
        refused = run(gateway, "pin", "phi-4")
    assert refused.exit_code == 5
    assert "a gateway is needed to pin" in refused.stderr
