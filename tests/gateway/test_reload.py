"""Reloading: what changed is applied once, and a bad file changes nothing but the error that is shown."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cortex.config.profiles import Profiles
from cortex.config.settings import Config, GatewayConfig
from cortex.errors import ConfigError
from cortex.gateway.reload import Reloader

OLD = (Config(), Profiles())
NEW = (Config(gateway=GatewayConfig(default_model="a")), Profiles())


class Recorder:
    def __init__(self) -> None:
        self.applied: list[Config] = []
        self.next: tuple[Config, Profiles] | ConfigError = NEW

    def read(self) -> tuple[Config, Profiles]:
        if isinstance(self.next, ConfigError):
            raise self.next
        return self.next

    def apply(self, config: Config, profiles: Profiles) -> None:
        self.applied.append(config)

    def reloader(self) -> Reloader:
        return Reloader(OLD, self.read, self.apply)


def test_a_changed_configuration_is_applied_once() -> None:
    recorder = Recorder()
    reloader = recorder.reloader()
    assert reloader.reload()
    assert not reloader.reload()
    assert recorder.applied == [NEW[0]]


def test_a_broken_file_keeps_the_old_configuration_and_says_why() -> None:
    """A public bug of this kind: llama-swap#281."""
    recorder = Recorder()
    recorder.next = ConfigError("gateway.listn: unknown key")
    reloader = recorder.reloader()
    with pytest.raises(ConfigError):
        reloader.reload()
    assert recorder.applied == []
    assert "listn" in reloader.error
    recorder.next = NEW
    reloader.try_reload()
    assert reloader.error == ""
    assert recorder.applied == [NEW[0]]


def test_signals_never_raise() -> None:
    recorder = Recorder()
    recorder.next = ConfigError("no")
    recorder.reloader().try_reload()


async def test_five_saves_in_a_second_are_at_most_one_reload(tmp_path: Path) -> None:
    """A public bug of this kind: llama-swap#281."""
    file = tmp_path / "cortex.toml"
    file.write_text("0")
    recorder = Recorder()
    reloader = recorder.reloader()
    watching = asyncio.create_task(reloader.watch([file], interval_s=0.05))
    await asyncio.sleep(0)
    for number in range(5):
        file.write_text("1" * (number + 2))
        await asyncio.sleep(0.02)
    async with asyncio.timeout(60):
        while not recorder.applied:  # noqa: ASYNC110 - the recorder has no events
            await asyncio.sleep(0.01)
    watching.cancel()
    assert recorder.applied == [NEW[0]]
