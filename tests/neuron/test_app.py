"""A neuron's configuration is read again while it runs."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from cortex.config.profiles import Profile, Profiles, encode_profiles
from cortex.config.settings import AuthConfig, Config, EvictionConfig, GatewayConfig, NeuronConfig
from cortex.neuron.app import Neuron
from cortex.neuron.catalog.scan import HeaderCache, scan
from cortex.serving.reload import Reloaded
from cortex.wire.status import LoadOrder, ProfilesOrder, UnloadOrder
from tests.neuron.conftest import fake_command, until
from tests.neuron.gguf_files import write_gguf


@dataclass
class Written:
    config: Config
    profiles: Profiles = field(default_factory=Profiles)
    stamps: int = 0

    def read(self) -> tuple[Config, Profiles]:
        return self.config, self.profiles

    def look(self) -> int:
        return 0


def neuron_of(tmp_path: Path, *models: str) -> tuple[Neuron, Written]:
    for model in models:
        write_gguf(tmp_path / "models" / f"{model}.gguf")
    settings = NeuronConfig(
        cpu_devices=1,
        cpu_memory="1GiB",
        model_dirs=[str(tmp_path / "models")],
        huggingface_cache=False,
        state_dir=str(tmp_path / "state"),
        kill_grace_s=0.5,
    )
    written = Written(Config(neuron=settings, models="models.toml"))
    neuron = Neuron(written.config, written.profiles, source=written)
    neuron.registry.pool.command = fake_command
    return neuron, written


async def test_a_changed_models_toml_holds_from_the_next_load_on(tmp_path: Path) -> None:
    neuron, written = neuron_of(tmp_path, "m", "n")
    async with neuron.running():
        await neuron.admin.load(LoadOrder("m"))
        written.profiles = Profiles(
            models=[Profile(id=name, aliases=[f"my-{name}"], parallel=2) for name in ("m", "n")]
        )
        assert neuron.reloader.reload() == Reloaded(True)
        await until(lambda: neuron.registry.models["n"].card.parallel == 2)
        assert neuron.backend.resolve("my-n") == "n"
        assert neuron.registry.models["m"].card.parallel == 4
        assert neuron.admin.status().profiles.hash == encode_profiles(written.profiles)[1]  # type: ignore[union-attr]
        await neuron.admin.unload(UnloadOrder("m"))
        assert neuron.registry.models["m"].card.parallel == 2


async def test_settings_are_applied_or_named(tmp_path: Path) -> None:
    neuron, written = neuron_of(tmp_path, "m")
    async with neuron.running():
        write_gguf(tmp_path / "more" / "late.gguf")
        settings = msgspec.structs.replace(
            written.config.neuron, model_dirs=[str(tmp_path / "more")], heartbeat_s=3.0, threads=7
        )
        written.config = msgspec.structs.replace(
            written.config,
            neuron=settings,
            auth=AuthConfig(keys=["k"]),
            eviction=EvictionConfig(idle_ttl_s=5.0),
            gateway=GatewayConfig(default_model="late", tries=9),
        )
        assert neuron.reloader.reload() == Reloaded(True, ["neuron.threads"])
        await until(lambda: list(neuron.registry.models) == ["late"])
        assert neuron.backend.resolve("") == "late"
        assert not neuron.keyring.is_open
        config = neuron.registry.config
        assert (config.eviction.idle_ttl_s, config.neuron.heartbeat_s, config.neuron.threads) == (5.0, 3.0, None)


async def test_profiles_that_a_gateway_sent_outlast_a_reload_of_other_settings(tmp_path: Path) -> None:
    neuron, written = neuron_of(tmp_path, "m")
    written.config = msgspec.structs.replace(written.config, models=None)
    neuron = Neuron(written.config, Profiles(), source=written)
    fresh = Profiles(models=[Profile(id="m", parallel=2)])
    neuron.profiles.take(ProfilesOrder("g1", "", msgspec.Raw(encode_profiles(fresh)[0])))
    written.config = msgspec.structs.replace(written.config, eviction=EvictionConfig(idle_ttl_s=5.0))
    neuron.reloader.reload()
    assert neuron.profiles.current == fresh


def test_a_link_that_leads_to_another_model_of_equal_size_and_time_is_read_again(tmp_path: Path) -> None:
    for name, context in (("a", 256), ("b", 512)):
        write_gguf(tmp_path / "blobs" / name, context=context)
        os.utime(tmp_path / "blobs" / name, (1_700_000_000, 1_700_000_000))
    (tmp_path / "models").mkdir()
    link, headers = tmp_path / "models" / "m.gguf", HeaderCache()
    link.symlink_to(tmp_path / "blobs" / "a")
    first = scan([tmp_path / "models"], None, Profiles(), headers).entries["m"]
    link.unlink()
    link.symlink_to(tmp_path / "blobs" / "b")
    assert scan([tmp_path / "models"], None, Profiles(), headers).entries["m"] != first
