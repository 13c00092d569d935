"""Keys, listening beyond loopback, config errors, and the operator's commands."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.clients import chat_body, sdk
from tests.e2e.conftest import Fleet, Launcher
from tests.e2e.models import HELLO, build_talker
from tests.e2e.processes import PLAIN, Daemon, eventually, toml

GREETING = "cortex is up at "


def test_keys_are_wanted_by_both_roles_and_a_token_gets_the_gateway_in(launcher: Launcher) -> None:
    neuron = launcher.neuron(auth={"keys": {"neuron-key": "gateway"}})
    gateway = launcher.role(
        "gateway",
        gateway={"listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0"},
        auth={"keys": {"client-key": "alice"}},
        neurons=[{"name": "n0", "endpoint": neuron.url, "token": "neuron-key"}],
    )
    for server, key in ((gateway, "client-key"), (neuron, "neuron-key")):
        assert server.get("/health").is_success
        for headers in ({}, {"authorization": "Bearer wrong"}, {"x-api-key": "wrong"}):
            refused = server.post("/v1/chat/completions", chat_body("hello"), headers=headers)
            assert refused.status_code == 401
            assert refused.json()["error"]["code"] == "invalid_api_key"
        for headers in ({"authorization": f"Bearer {key}"}, {"x-api-key": key}):
            answer = server.post("/v1/chat/completions", chat_body("hello"), headers=headers)
            assert answer.json()["choices"][0]["message"]["content"] == HELLO
    assert neuron.get("/status").status_code == 401
    assert neuron.post("/models/load", {"model": "talker"}).status_code == 401
    assert neuron.post("/infer").status_code == 401
    assert gateway.get("/fleet").status_code == 401


def test_keys_may_come_from_a_file(launcher: Launcher) -> None:
    keys = launcher.directory / "keys"
    keys.write_text("sk-one alice\nsk-two bob\n")
    neuron = launcher.neuron(auth={"keys_file": str(keys)})
    with sdk(neuron, key="sk-two") as client:
        assert {model.id for model in client.models.list()} == {"smollm2", "talker"}
    assert neuron.get("/v1/models").status_code == 401


@pytest.mark.parametrize("role", ["gateway", "neuron"])
def test_listening_beyond_loopback_without_keys_is_refused(launcher: Launcher, role: str) -> None:
    daemon = launcher.role(role, **{role: {"listen": "0.0.0.0:0"}})
    assert daemon.wait() == 2
    launcher.started.remove(daemon)
    assert f"{role}.insecure = true" in daemon.log()


@pytest.mark.parametrize("role", ["gateway", "neuron", "up"])
def test_a_config_error_names_file_path_and_nearest_key_and_exits_2(launcher: Launcher, role: str) -> None:
    path = launcher.directory / "wrong.toml"
    path.write_text('[gateway]\nlistn = "127.0.0.1:0"\n')
    daemon = launcher.start([role, "--config", str(path)])
    assert daemon.wait() == 2
    launcher.started.remove(daemon)
    assert daemon.lines == [f"cortex: {path}: gateway.listn: unknown key, did you mean listen?"]


def test_a_port_in_use_is_told_and_exits_2(launcher: Launcher, fleet: Fleet) -> None:
    port = httpx.URL(fleet.neuron.url).port
    daemon = launcher.neuron(neuron={"listen": f"127.0.0.1:{port}"})
    assert daemon.wait() == 2
    launcher.started.remove(daemon)
    assert f"cannot listen on 127.0.0.1:{port}" in daemon.log()


def run(arguments: list[str]) -> Daemon:
    daemon = Daemon(arguments)
    daemon.wait()
    return daemon


def test_status_shows_the_fleet(fleet: Fleet) -> None:
    fleet.gateway.post("/v1/chat/completions", chat_body("hello")).raise_for_status()
    table = run(["status", "--url", fleet.gateway.url])
    assert table.process.returncode == 0, table.log()
    assert "talker" in "\n".join(table.output)
    document = run(["status", "--url", fleet.gateway.url, "--json"])
    assert [neuron["name"] for neuron in json.loads("\n".join(document.output))["neurons"]] == ["n0"]


def test_status_of_nothing_is_exit_3() -> None:
    assert run(["status", "--url", "http://127.0.0.1:9"]).process.returncode == 3


@pytest.fixture
def up(launcher: Launcher, tmp_path: Path) -> Daemon:
    """`cortex up` with one scripted model, on free ports."""
    build_talker(tmp_path / "only" / "talker.gguf")
    config = tmp_path / "up.toml"
    neuron = {"listen": "127.0.0.1:0", "gpus": "none", "cpu_devices": 1, "cpu_memory": "1GiB", "threads": 1}
    places = {"model_dirs": [str(tmp_path / "only")], "huggingface_cache": False, "state_dir": str(tmp_path / "state")}
    gateway = {"listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0"}
    config.write_text(toml({"gateway": gateway, "neuron": neuron | places}))
    return launcher.start(["up", "--config", str(config)])


def up_url(daemon: Daemon) -> str:
    (line,) = eventually(lambda: [line for line in daemon.output if line.startswith(GREETING)], what=daemon.log())
    return line.removeprefix(GREETING)


def test_up_serves_and_stops_as_one(up: Daemon) -> None:
    url = up_url(up)
    answer = httpx.post(f"{url}/v1/chat/completions", json=chat_body("hello"), timeout=60, **PLAIN)
    assert answer.json()["choices"][0]["message"]["content"] == HELLO
    pids = children(up.pid)
    assert len(pids) == 2
    up.signal(signal.SIGINT)
    assert up.wait() == 0
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_up_ends_when_a_role_dies(up: Daemon, launcher: Launcher) -> None:
    up_url(up)
    os.kill(children(up.pid)[0], signal.SIGKILL)
    assert up.wait() == 1
    launcher.started.remove(up)
    assert "ended with exit code -9" in up.log()


def test_up_reloads_edited_files_on_sighup_and_on_request(up: Daemon, tmp_path: Path) -> None:
    """SIGHUP ended it, and nothing else had an effect: its roles read files that nobody edits."""
    url, config, models = up_url(up), tmp_path / "up.toml", tmp_path / "models.toml"
    before, pids = config.read_text(), children(up.pid)

    def names(headers: dict[str, str] | None = None) -> list[str] | int:
        answer = httpx.get(f"{url}/v1/models", headers=headers, timeout=60, **PLAIN)
        return [model["id"] for model in answer.json()["data"]] if answer.is_success else answer.status_code

    models.write_text('[[models]]\nid = "first"\nfile = "talker.gguf"\n')
    config.write_text(f'models = "models.toml"\n{before}')  # edited
    eventually(lambda: "first" in (names() or []), what="the first profile")
    models.write_text('[[models]]\nid = "second"\nfile = "talker.gguf"\n')
    eventually(lambda: "second" in (names() or []), what="the profile in a file that was named later")
    config.write_text(f'models = "models.toml"\nauth.keys_file = "keys"\n{before}')
    (tmp_path / "keys").write_text("sk-a alice\n")
    up.signal(signal.SIGHUP)
    eventually(lambda: names() == 401, what="keys are wanted")
    key = {"x-api-key": "sk-a"}
    eventually(lambda: "second" in (names(key) or []), what="the gateway has its own key for the neuron")
    config.write_text(f"models = 'models.toml'\nlimits = {{ body_bytes = 10 }}\nauth.keys_file = 'keys'\n{before}")
    answer = httpx.post(f"{url}/reload", headers=key, timeout=60, **PLAIN)
    assert answer.json()["needs_restart"] == []
    assert httpx.post(f"{url}/v1/chat/completions", json={}, headers=key, timeout=60, **PLAIN).status_code == 400
    too_large = httpx.post(f"{url}/v1/chat/completions", json=chat_body("hello"), headers=key, timeout=60, **PLAIN)
    assert too_large.status_code == 413
    assert children(up.pid) == pids


def children(pid: int) -> list[int]:
    """The neuron's and the gateway's processes."""
    return [child.pid for child in psutil.Process(pid).children()]
