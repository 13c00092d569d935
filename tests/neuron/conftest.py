"""A whole neuron in this process over fake workers, which are real processes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest

from cortex.config.profiles import Profile, Profiles
from cortex.config.settings import Config, EvictionConfig, FaultsConfig, LimitsConfig, NeuronConfig
from cortex.neuron.app import Neuron
from cortex.neuron.catalog.entry import Entry
from cortex.neuron.catalog.gguf_header import read_header
from cortex.neuron.devices import nvml as nvml_module
from cortex.neuron.memory.estimate import estimate
from cortex.neuron.models.load_plan import shape_of
from cortex.wire.events import Event
from cortex.wire.inference import InferenceRequest
from tests.neuron.devices.fake_nvml import FakeNvml
from tests.neuron.gguf_files import write_gguf

FAKE = Path(__file__).with_name("fake_worker.py")


def fake_command(_name: str, _threads: int | None) -> Callable[[int], list[str]]:
    return lambda fd: [sys.executable, str(FAKE), str(fd)]


async def until(fact: Callable[[], object], within_s: float = 60.0) -> None:
    """Wait for a fact, not for a time."""
    async with asyncio.timeout(within_s):
        while not fact():  # noqa: ASYNC110 - the facts come from other processes, too
            await asyncio.sleep(0.005)


def room_for(models: float) -> int:
    """Bytes that so many of `write_gguf`'s models take by the ledger's estimate, served with the defaults."""
    with TemporaryDirectory() as directory:
        header = read_header(write_gguf(Path(directory) / "m.gguf"))
    entry = Entry("m", Profile("m"), header=header)
    return int(models * estimate(header, shape_of(entry, 256)).total)


class Bench:
    """A started neuron and short words for what tests do with it."""

    def __init__(self, neuron: Neuron) -> None:
        self.neuron = neuron
        self.manager = neuron.manager
        self.registry = neuron.registry
        self.admin = neuron.admin
        self._count = 0

    def request(self, model: str, prompt: str = "hi", **fields: object) -> InferenceRequest:
        self._count += 1
        return msgspec.convert(
            {"type": "generate", "id": f"r{self._count}", "model": model, "prompt": prompt, **fields}, InferenceRequest
        )

    async def ask(self, model: str, prompt: str = "hi", *, within_s: float = 60.0, **fields: object) -> list[Event]:
        events: list[Event] = []
        async with asyncio.timeout(within_s):
            await self.neuron.backend.serve(self.request(model, prompt, **fields), events.extend)
        return events

    def let_load(self, model: str) -> None:
        """A `held` model's load goes on behind its half, where it waits."""
        Path(f"{self.registry.models[model].entry.path}.go").touch()

    def state(self, model: str) -> str:
        return self.registry.models[model].state


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setattr(nvml_module, "pynvml", fake)
    return fake


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., object]:
    """`async with bench("a", "b", devices=2, …) as neuron:` with a small GGUF file per model id."""

    @asynccontextmanager
    async def start(
        *models: str,
        devices: int = 1,
        memory: int | str = "1GiB",
        profiles: Sequence[Profile] = (),
        eviction: EvictionConfig | None = None,
        faults: FaultsConfig | None = None,
        drain_s: float = 5.0,
        **neuron: object,
    ) -> AsyncIterator[Bench]:
        directory = tmp_path / "models"
        for model in models:
            write_gguf(directory / f"{model}.gguf")
        settings = {
            "cpu_devices": devices,
            "cpu_memory": memory,
            "model_dirs": [str(directory)],
            "huggingface_cache": False,
            "state_dir": str(tmp_path / "state"),
            "kill_grace_s": 0.5,
            "empty_worker_s": 0.05,
        }
        config = Config(
            neuron=NeuronConfig(**{**settings, **neuron}),  # type: ignore[arg-type]
            eviction=eviction or EvictionConfig(min_residency_s=0.0),
            limits=LimitsConfig(drain_s=drain_s),
            faults=faults,
        )
        daemon = Neuron(config, Profiles(models=list(profiles)))
        daemon.registry.pool.command = fake_command
        async with daemon.running():
            yield Bench(daemon)

    return start
