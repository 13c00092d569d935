"""One model over two devices that other processes offer by RPC: the same words as from one device."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from cortex.config.profiles import Profile, Profiles
from cortex.config.settings import Config, NeuronConfig
from cortex.neuron.api.rpc import RpcServer
from cortex.neuron.app import Neuron
from cortex.wire.events import Finished, TextDelta
from cortex.wire.inference import Sampling
from cortex.wire.status import LoadOrder, UnloadOrder
from tests.models import smollm2
from tests.neuron.conftest import Bench, until


def free_ports(count: int) -> list[int]:
    """Held at one time, so that no two are the same."""
    with ExitStack() as held:
        socks = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(sock.getsockname()[1]) for sock in socks]


def accepts(endpoint: str) -> bool:
    host, _, port = endpoint.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=1):
            return True
    except OSError:
        return False


@pytest.fixture
async def endpoints() -> AsyncIterator[list[str]]:
    """Two device servers on loopback."""
    found = [f"127.0.0.1:{port}" for port in free_ports(2)]
    tasks = [asyncio.create_task(RpcServer(endpoint, 1).run()) for endpoint in found]
    for endpoint in found:
        await until(lambda endpoint=endpoint: accepts(endpoint))
    yield found
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def words(bench: Bench, model: str) -> str:
    events = await bench.ask(
        model, "The capital of France is", within_s=120, max_output=4, sampling={"temperature": 0.0}
    )
    assert isinstance(events[-1], Finished), events[-1]
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@pytest.mark.e2e
async def test_a_split_over_two_rpc_devices_says_what_the_whole_model_says(
    endpoints: list[str], tmp_path: Path
) -> None:
    """Layer and tensor split, the second call too; an unload frees the worker, and the tensor split proved itself."""
    neuron = split_neuron(endpoints, tmp_path)
    async with neuron.running():
        bench = Bench(neuron)
        expected = await words(bench, "whole")
        assert "Paris" in expected
        for model in ("layers", "tensor"):
            assert await words(bench, model) == expected
            assert await words(bench, model) == expected
        assert bench.admin.model("tensor").split_mode == "tensor", bench.admin.model("tensor").stage
        assert "checked" in bench.admin.model("tensor").stage
        worker = bench.registry.models["tensor"].worker
        await bench.admin.unload(UnloadOrder("layers"))
        await bench.admin.unload(UnloadOrder("tensor"))
        await until(lambda: worker.state == "stopped")
        assert (await bench.admin.load(LoadOrder("tensor"))).state == "ready"


@pytest.mark.e2e
async def test_a_tensor_split_that_says_something_else_is_served_by_layer_and_that_is_told(
    endpoints: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The expected words are another model's, so that to the check the split computes nonsense. The ledger has the
    layers where they ended up, with the RPC hosts."""
    neuron = split_neuron(endpoints, tmp_path)
    async with neuron.running():
        bench = Bench(neuron)
        spec = bench.registry.planner.spec(bench.registry.models["tensor"].entry, 256, ["cpu0"])
        expect_something_else(Path(spec.parity_file))
        job = await bench.admin.load(LoadOrder("tensor"))
        assert job.status.split_mode == "layer"
        assert "split by layer, since the tensor split failed: it prefers another token" in job.status.stage
        (told,) = [record for record in caplog.records if record.message == "model loaded"]
        assert told.levelname == "WARNING"
        assert told.note == job.status.stage
        assert "Paris" in await words(bench, "tensor")
        held = {line.device: line.bytes for line in bench.registry.ledger.lines()}
        assert all(held[f"rpc:{endpoint}"] > 30 * 1024 * 1024 for endpoint in endpoints)
        assert held["cpu0"] < 100 * 1024 * 1024


def expect_something_else(parity_file: Path) -> None:
    parity_file.parent.mkdir()
    parity_file.write_bytes(msgspec.json.encode([17] * 8))


def split_neuron(endpoints: list[str], state: Path) -> Neuron:
    split = {"file": str(smollm2()), "context": 256, "parallel": 1, "sampling": Sampling(temperature=0.0)}
    profiles = [
        Profile("whole", **split),
        Profile("layers", split_mode="layer", rpc=endpoints, **split),
        Profile("tensor", split_mode="tensor", rpc=endpoints, **split),
    ]
    settings = NeuronConfig(
        cpu_devices=1,
        cpu_memory="4GiB",
        threads=1,
        model_dirs=[],
        huggingface_cache=False,
        state_dir=str(state),
        empty_worker_s=0.05,
    )
    return Neuron(Config(neuron=settings), Profiles(models=profiles))
