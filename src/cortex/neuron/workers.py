"""The worker processes of this neuron: one for each set of devices that models have been placed on."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cortex.neuron.devices import Device
from cortex.neuron.supervisor import Worker, WorkerOwner, WorkerSettings

__all__ = ["WorkerPool", "ggml_names", "shipped_worker"]

logger = logging.getLogger(__name__)

CommandFor = Callable[[str, int | None], Callable[[int], list[str]]]


def shipped_worker(name: str, threads: int | None) -> Callable[[int], list[str]]:
    """The command line of cortex's own worker, given the inherited descriptor."""
    extra = ["--cpu-threads", str(threads)] if threads else []
    if logger.isEnabledFor(logging.DEBUG):  # else nobody would see what llama.cpp says beyond warnings
        extra.append("--verbose")
    return lambda fd: [sys.executable, "-m", "cortex.engine.worker", "--fd", str(fd), "--name", name, *extra]


def ggml_names(devices: Sequence[str], rpc: Sequence[str] = ()) -> list[str]:
    """What a worker that sees exactly `devices`, in this order, calls them; empty where it has just one.

    Beside RPC devices a GPU must be named; a CPU must not: the layers go to the RPC devices alone then.
    """
    if (len(devices) < 2 and not rpc) or devices[0].startswith("cpu"):
        return []
    return [f"{name.rstrip('0123456789.').upper()}{index}" for index, name in enumerate(devices)]


@dataclass
class WorkerPool:
    """Makes a worker on first use of a device set and keeps it, running or not, for its history.

    `threads` are shared out: two CPU workers with every core each would fight.
    """

    devices: Sequence[Device]
    kill_grace_s: float
    threads: int | None
    command: CommandFor = shipped_worker
    clock: Callable[[], float] = lambda: asyncio.get_running_loop().time()
    owner: WorkerOwner = field(init=False)  # set by the residency, before the first worker is made
    _workers: dict[tuple[str, ...], Worker] = field(default_factory=dict)

    def all(self) -> list[Worker]:
        return list(self._workers.values())

    def on(self, devices: Sequence[str], rpc: Sequence[str] = ()) -> Worker:
        """The worker for `devices`; one that uses RPC devices is its own, since it dies when their host does."""
        key = (*devices, *(f"rpc:{endpoint}" for endpoint in rpc))
        if key not in self._workers:
            name = "+".join(key)
            settings = WorkerSettings(
                id=name,
                devices=tuple(devices),
                command=self.command(name, self._threads()),
                environment=self._environment(key),
                kill_grace_s=self.kill_grace_s,
                clock=self.clock,
            )
            self._workers[key] = Worker(settings, self.owner)
        return self._workers[key]

    def rss_of(self, device: str) -> int:
        return sum(worker.rss_bytes for worker in self._workers.values() if device in worker.devices)

    def pids(self) -> set[int]:
        return {worker.pid for worker in self._workers.values() if worker.pid is not None}

    async def stop_all(self) -> None:
        await asyncio.gather(*(worker.stop() for worker in self.all()))

    def _threads(self) -> int | None:
        cpus = [device for device in self.devices if device.kind == "cpu"]
        if self.threads or len(cpus) < 2:
            return self.threads
        return max((os.cpu_count() or 1) // len(cpus), 1)

    def _environment(self, key: tuple[str, ...]) -> Mapping[str, str]:
        """Only the GPUs of its set are visible to a worker, by uuid: indices change with what else is installed."""
        by_id = {device.id: device for device in self.devices}
        gpus = [by_id[name].uuid for name in key if name in by_id and by_id[name].kind == "cuda"]
        return {"CUDA_VISIBLE_DEVICES": ",".join(gpus), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
