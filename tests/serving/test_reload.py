"""Reloading: what changed is applied once, and a bad file changes nothing but the error that is shown."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cortex.config.profiles import Profiles
from cortex.config.settings import AuthConfig, Config, GatewayConfig, LogConfig, NeuronConfig, ResponsesConfig
from cortex.config.source import ConfigSource
from cortex.errors import ConfigError
from cortex.serving.access.keyring import Keyring
from cortex.serving.reload import Reloaded, Reloader

OLD = (Config(), Profiles())
NEW = (Config(gateway=GatewayConfig(default_model="a")), Profiles())


class Recorder:
    def __init__(self) -> None:
        self.applied: list[Config] = []
        self.next: tuple[Config, Profiles] | ConfigError = NEW
        self.stamps = 0

    def read(self) -> tuple[Config, Profiles]:
        if isinstance(self.next, ConfigError):
            raise self.next
        return self.next

    def look(self) -> int:
        return 0

    def apply(self, config: Config, profiles: Profiles) -> None:
        self.applied.append(config)

    def reloader(self) -> Reloader:
        return Reloader(OLD, self, self.apply)


def test_a_changed_configuration_is_applied_once() -> None:
    recorder = Recorder()
    reloader = recorder.reloader()
    assert reloader.reload().changed
    assert not reloader.reload().changed
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


def test_what_cannot_be_applied_is_named_until_the_restart_and_not_called_a_change() -> None:
    recorder = Recorder()
    reloader = Reloader(OLD, recorder, recorder.apply, fixed=["gateway.listen", "responses"], unused=["neuron"])
    gateway, responses = GatewayConfig(listen="127.0.0.1:1"), ResponsesConfig(store="s.sqlite", max_entries=1)
    recorder.next = Config(gateway=gateway, responses=responses, neuron=NeuronConfig(name="x")), Profiles()
    waiting = ["responses.store", "responses.max_entries", "gateway.listen"]
    assert reloader.reload() == reloader.reload() == Reloaded(False, waiting)
    assert recorder.applied == []
    recorder.next = Config(gateway=gateway, log=LogConfig(level="debug")), Profiles()
    assert reloader.reload() == Reloaded(True, ["gateway.listen"])
    assert recorder.applied == [Config(log=LogConfig(level="debug"))]
    recorder.next = OLD
    assert reloader.reload() == Reloaded(True, [])


def test_a_config_that_cannot_be_served_changes_nothing() -> None:
    recorder = Recorder()

    def check(config: Config) -> None:
        if config.gateway.listen == "no address":
            raise ConfigError("gateway.listen")

    reloader = Reloader(OLD, recorder, recorder.apply, check=check, fixed=["gateway.listen"])
    recorder.next = Config(gateway=GatewayConfig(listen="no address", default_model="a")), Profiles()
    with pytest.raises(ConfigError):
        reloader.reload()
    assert recorder.applied == []


def test_a_keys_file_that_alone_changed_is_read_again(tmp_path: Path) -> None:
    """A revoked key was accepted until cortex.toml was changed too."""
    keys = tmp_path / "keys"
    keys.write_text("sk-a alice\n")
    config = Config(auth=AuthConfig(keys_file=str(keys)))
    keyring, recorder = Keyring(config.auth), Recorder()
    recorder.next = config, Profiles()

    def apply(config: Config, profiles: Profiles) -> None:
        recorder.apply(config, profiles)
        keyring.reload(config.auth)

    reloader = Reloader(recorder.next, recorder, apply, keys_differ=lambda config: keyring.differs(config.auth))
    assert not reloader.reload().changed
    keys.write_text("sk-b bob\n")
    assert reloader.reload().changed
    assert keyring.principal_of({"x-api-key": "sk-b"}) == "bob"
    assert not reloader.reload().changed
    keys.unlink()
    with pytest.raises(ConfigError, match="keys_file"):
        reloader.reload()
    assert keyring.principal_of({"x-api-key": "sk-b"}) == "bob"


class Watched:
    """A reloader that watches real files, with what it has applied."""

    def __init__(self, path: Path) -> None:
        self.applied: list[tuple[Config, Profiles]] = []
        source = ConfigSource(path)
        self.reloader = Reloader(source.read(), source, lambda *fresh: self.applied.append(fresh))

    async def until(self, fact: Callable[[], object]) -> None:
        watching = asyncio.create_task(self.reloader.watch(interval_s=0.05))
        async with asyncio.timeout(60):
            while not fact():  # noqa: ASYNC110 - there are no events
                await asyncio.sleep(0.01)
        watching.cancel()


async def test_five_saves_in_a_second_are_at_most_one_reload(tmp_path: Path) -> None:
    """A public bug of this kind: llama-swap#281."""
    file = tmp_path / "cortex.toml"
    file.write_text("")
    watched = Watched(file)
    watching = asyncio.create_task(watched.until(lambda: watched.applied))
    await asyncio.sleep(0)
    for number in range(5):
        file.write_text(f"[gateway]\ntries = {number + 5}\n")
        await asyncio.sleep(0.02)
    await watching
    assert [config.gateway.tries for config, _ in watched.applied] == [9]


async def test_a_link_that_leads_to_another_file_of_equal_size_and_time_is_noticed(tmp_path: Path) -> None:
    """Kubernetes replaces a mounted ConfigMap so."""
    for number in (5, 6):
        (tmp_path / f"{number}.toml").write_text(f"[gateway]\ntries = {number}\n")
        os.utime(tmp_path / f"{number}.toml", (1_700_000_000, 1_700_000_000))
    link = tmp_path / "cortex.toml"
    link.symlink_to("5.toml")
    watched = Watched(link)
    link.unlink()
    link.symlink_to("6.toml")
    await watched.until(lambda: watched.applied)
    assert [config.gateway.tries for config, _ in watched.applied] == [6]


async def test_a_models_toml_that_a_reload_names_is_watched_from_then_on(tmp_path: Path) -> None:
    """Even where the reload fails since it isn't there yet."""
    file, models = tmp_path / "cortex.toml", tmp_path / "models.toml"
    file.write_text("")
    watched = Watched(file)
    file.write_text('models = "models.toml"')
    await watched.until(lambda: "no such file" in watched.reloader.error)
    models.write_text('[[models]]\nid = "a"\n')
    await watched.until(lambda: watched.applied)
    models.write_text('[[models]]\nid = "b"\n')
    await watched.until(lambda: len(watched.applied) == 2)
    assert [[profile.id for profile in profiles.models] for _, profiles in watched.applied] == [["a"], ["b"]]
    assert watched.reloader.error == ""


async def test_a_change_between_the_start_and_the_watch_is_noticed(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("sk-a\n")
    file = tmp_path / "cortex.toml"
    file.write_text('[auth]\nkeys_file = "keys"\n')
    source = ConfigSource(file)
    source.read()
    assert source.look() == source.stamps
    keys.write_text("sk-b\n")
    assert source.look() != source.stamps
