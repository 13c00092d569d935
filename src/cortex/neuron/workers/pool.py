"""The worker processes of this neuron: one for each set of devices that models have been placed on."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cortex.neuron.devices.devices import Device
from cortex.neuron.devices.visibility import device_environment
from cortex.neuron.workers.process import Worker, WorkerOwner, WorkerSettings
from cortex.neuron.workers.spawn import QUIET_ABORT, python_command

__all__ = ["WorkerPool", "worker_command"]

logger = logging.getLogger(__name__)

CommandFor = Callable[[str, int | None], Callable[[int], list[str]]]
"""(worker id, CPU threads) → (inherited descriptor → command line)."""


def worker_command(name: str, threads: int | None) -> Callable[[int], list[str]]:
    """The command line of the engine's worker, given the inherited descriptor."""
    extra = ["--cpu-threads", str(threads)] if threads else []
    if logger.isEnabledFor(logging.DEBUG):  # llama.cpp's messages below warnings are logged at debug level
        extra.append("--verbose")
    return lambda fd: python_command("cortex.engine.worker", "--fd", str(fd), "--name", name, *extra)


@dataclass
class WorkerPool:
    """Makes a worker on first use of a device set and keeps it, running or not, for its counters and its log.

    `threads` per worker; None divides the cores among the CPU devices: ggml's threads of two workers on one core would
    wait for each other at every barrier. `owner` is set by ModelManager, before the first worker is made.
    """

    devices: Sequence[Device]
    kill_grace_s: float
    threads: int | None
    command: CommandFor = worker_command
    clock: Callable[[], float] = lambda: asyncio.get_running_loop().time()
    owner: WorkerOwner = field(init=False)
    _workers: dict[tuple[str, ...], Worker] = field(default_factory=dict)

    def all(self) -> list[Worker]:
        return list(self._workers.values())

    def worker_for(self, devices: Sequence[str], rpc: Sequence[str] = ()) -> Worker:
        """The worker for `devices` (ids, in split order) and `rpc` endpoints. Those with RPC devices are apart from
        those without: they die when the endpoint's host does."""
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
        """Resident bytes of the workers on `device`, as of their last heartbeats."""
        return sum(worker.rss_bytes for worker in self._workers.values() if device in worker.devices)

    async def stop_all(self) -> None:
        await asyncio.gather(*(worker.stop() for worker in self.all()))

    def _threads(self) -> int | None:
        cpus = [device for device in self.devices if device.kind == "cpu"]
        if self.threads or len(cpus) < 2:
            return self.threads
        return max((os.cpu_count() or 1) // len(cpus), 1)

    def _environment(self, key: tuple[str, ...]) -> Mapping[str, str]:
        by_id = {device.id: device for device in self.devices}
        return {**QUIET_ABORT, **device_environment([by_id[name] for name in key if name in by_id])}
