"""Fleets of real processes on loopback. Tests may send requests to those of a session, but not break or change them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.models import build_talker
from tests.e2e.processes import Daemon, toml
from tests.models import smollm2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("e2e")


@dataclass
class Launcher:
    """Starts roles with their files in `directory`; given sections are merged into the defaults key by key."""

    directory: Path
    started: list[Daemon]

    def start(self, arguments: list[str], environment: dict[str, str] | None = None) -> Daemon:
        daemon = Daemon(arguments, environment)
        self.started.append(daemon)
        return daemon

    def role(self, role: str, **sections: Any) -> Daemon:
        path = self.directory / f"{role}-{len(self.started)}.toml"
        path.write_text(toml(sections))
        return self.start([role, "--config", str(path)])

    def neuron(self, models: Path | None = None, profiles: str = "", **sections: Any) -> Daemon:
        """A neuron with one virtual CPU device and the models of a directory (default: SmolLM2 and the talker)."""
        name = f"n{len(self.started)}"
        neuron = {
            "name": name,
            "listen": "127.0.0.1:0",
            "gpus": "none",
            "cpu_devices": 1,
            "cpu_memory": "3GiB",
            "threads": 1,
            "model_dirs": [str(models or self.directory / "models")],
            "huggingface_cache": False,
            "offline": True,
            "state_dir": str(self.directory / f"state-{name}"),
            **sections.pop("neuron", {}),
        }
        if profiles:
            path = self.directory / f"models-{name}.toml"
            path.write_text(profiles)
            sections["models"] = str(path)
        return self.role("neuron", neuron=neuron, **sections)

    def gateway(self, *neurons: Daemon, **sections: Any) -> Daemon:
        entries = [{"name": f"n{i}", "endpoint": neuron.url} for i, neuron in enumerate(neurons)]
        gateway = {
            "listen": "127.0.0.1:0",
            "metrics_listen": "127.0.0.1:0",
            "silence_s": 40.0,
            "connect_s": 20.0,
            **sections.pop("gateway", {}),
        }
        return self.role("gateway", **{"gateway": gateway, "neurons": entries, **sections})

    def stop(self) -> None:
        """Stop all roles, the last one started first; each must end without an error."""
        problems = []
        for daemon in reversed(self.started):
            try:
                daemon.stop()
            except AssertionError as error:
                problems.append(str(error))
        assert not problems, "\n\n".join(problems)


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    build_talker(directory / "talker.gguf")
    (directory / "smollm2.gguf").symlink_to(smollm2())
    return directory


def _launcher(directory: Path, model_dir: Path) -> Iterator[Launcher]:
    (directory / "models").symlink_to(model_dir)
    launcher = Launcher(directory, [])
    try:
        yield launcher
    finally:
        launcher.stop()


@pytest.fixture
def launcher(tmp_path: Path, model_dir: Path) -> Iterator[Launcher]:
    """For tests that stop or break processes."""
    yield from _launcher(tmp_path, model_dir)


@dataclass
class Fleet:
    gateway: Daemon
    neuron: Daemon

    def at(self, role: str) -> Daemon:
        return self.gateway if role == "gateway" else self.neuron


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Iterator[Fleet]:
    """One gateway with one neuron for all tests that only send requests."""
    for launcher in _launcher(tmp_path_factory.mktemp("fleet"), model_dir):
        neuron = launcher.neuron()
        yield Fleet(launcher.gateway(neuron), neuron)


@pytest.fixture(params=["gateway", "neuron"])
def server(request: pytest.FixtureRequest, fleet: Fleet) -> Daemon:
    """Both roles in turn: clients must not see a difference."""
    return fleet.at(request.param)
