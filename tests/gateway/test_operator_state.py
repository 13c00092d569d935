"""Pins and drains survive a restart of the gateway; a damaged file never prevents its start."""

from __future__ import annotations

from pathlib import Path

import pytest

from cortex.config.profiles import Profiles
from cortex.config.settings import Config, GatewayConfig, NeuronEntry
from cortex.gateway.app import Gateway
from cortex.gateway.operator_state import OperatorStateFile, operator_state_path
from cortex.gateway.scheduling.effects import OperatorState


def gateway(directory: Path, *, port: int = 31313) -> Gateway:
    config = GatewayConfig(listen=f"127.0.0.1:{port}", state_dir=str(directory))
    neurons = [NeuronEntry(name=name, endpoint=f"http://{name}") for name in ("m", "n")]
    return Gateway(Config(gateway=config, neurons=neurons), Profiles())


def test_pins_and_drains_hold_after_a_restart(tmp_path: Path) -> None:
    first = gateway(tmp_path)
    first.loop.post(lambda scheduler, now: scheduler.on_pin("a", True, now))
    first.loop.post(lambda scheduler, now: scheduler.on_pin("b", False, now))
    for name, drained in (("m", True), ("n", True), ("n", False)):
        first.loop.post(lambda scheduler, now, name=name, drained=drained: scheduler.on_drain(name, drained, now))
    state = gateway(tmp_path).loop.scheduler.state
    assert state.pins == {"a": True, "b": False}
    assert [neuron.name for neuron in state.fleet if neuron.drained] == ["m"]


def test_gateways_of_one_host_keep_their_own(tmp_path: Path) -> None:
    gateway(tmp_path, port=1).loop.post(lambda scheduler, now: scheduler.on_pin("a", True, now))
    assert gateway(tmp_path, port=2).loop.scheduler.state.pins == {}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"pins": 3}', b"[]"])
def test_a_damaged_file_is_reported_and_replaced_by_the_next_order(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file = OperatorStateFile(tmp_path / "g.json")
    (tmp_path / "g.json").write_bytes(content)
    assert file.load() == OperatorState()
    assert "pins and drains" in caplog.text
    file.save(OperatorState({"a": True}))
    assert file.load() == OperatorState({"a": True})


def test_a_directory_that_cannot_be_written_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("not a directory")
    OperatorStateFile(tmp_path / "file" / "g.json").save(OperatorState({"a": True}))
    assert "not kept" in caplog.text


def test_with_a_port_chosen_by_the_system_nothing_is_saved() -> None:
    assert operator_state_path(GatewayConfig(listen="127.0.0.1:0")) is None
    OperatorStateFile(None).save(OperatorState({"a": True}))
    assert OperatorStateFile(None).load() == OperatorState()
