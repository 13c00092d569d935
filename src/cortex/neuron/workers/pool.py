"""The worker processes of this neuron: one for each set of devices that models have been placed on."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cortex.neuron.devices.devices import Device
from cortex.neuron.workers.command import engine_command
from cortex.neuron.workers.process import Worker, WorkerOwner, WorkerSettings

__all__ = ["QUIET_ABORT", "WorkerPool", "ggml_names", "shipped_worker", "visibility"]

logger = logging.getLogger(__name__)

QUIET_ABORT = {"GGML_NO_BACKTRACE": "1"}
"""llama.cpp's own word on why it aborts is its last one then. Else a debugger, where there is one, stops the dying
process for seconds, and the frames it prints push the reason out of the log's tail."""

CommandFor = Callable[[str, int | None], Callable[[int], list[str]]]


def shipped_worker(name: str, threads: int | None) -> Callable[[int], list[str]]:
    """The command line of cortex's own worker, given the inherited descriptor."""
    extra = ["--cpu-threads", str(threads)] if threads else []
    if logger.isEnabledFor(logging.DEBUG):  # else nobody would see what llama.cpp says beyond warnings
        extra.append("--verbose")
    return lambda fd: engine_command("worker", "--fd", str(fd), "--name", name, *extra)


def ggml_names(devices: Sequence[Device]) -> list[str]:
    """What a worker for `devices`, in this order, calls them: ggml's own names, which count from 0 among the GPUs that
    the process is shown."""
    return [_ggml_name(device, index) for index, device in enumerate(devices)]


def _ggml_name(device: Device, index: int) -> str:
    if device.kind == "cpu":
        return "CPU"
    return device.ggml or f"{'ROCm' if device.kind == 'rocm' else 'CUDA'}{index}"


def visibility(devices: Sequence[Device]) -> dict[str, str]:
    """The environment that shows a process only `devices`: NVIDIA's by uuid, since indices change with what else is
    installed, AMD's by index. Nothing for drivers that can't be told; llama.cpp is told the names then."""
    if any(device.ggml for device in devices):
        return {}
    if hip := [device.hip for device in devices if device.hip]:
        return {"HIP_VISIBLE_DEVICES": ",".join(hip)}
    gpus = [device.uuid for device in devices if device.kind == "cuda"]
    return {"CUDA_VISIBLE_DEVICES": ",".join(gpus), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


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
        by_id = {device.id: device for device in self.devices}
        return {**QUIET_ABORT, **visibility([by_id[name] for name in key if name in by_id])}
