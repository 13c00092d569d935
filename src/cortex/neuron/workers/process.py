"""One worker process: started on demand, supervised, restarted with back-off, and always reaped.

A `Worker` is the only writer of its own state. It doesn't know which models it holds: whoever loads models into it
gets its notices and its death through `WorkerOwner`. Everything here runs on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from cortex.errors import WorkerDied
from cortex.neuron.workers.link import WorkerLink, connect
from cortex.neuron.workers.spawn import LogTail, exit_reason, prefer_oom_kill, spawn_worker
from cortex.neuron.workers.states import WorkerEvent, backoff_s, next_state
from cortex.wire.status import WorkerState, WorkerStatus
from cortex.wire.worker import Command, Heartbeat, Ready, RelayedNotice, Shutdown

__all__ = ["Worker", "WorkerOwner", "WorkerSettings"]

logger = logging.getLogger(__name__)

_START_S = 120.0
"""Importing llama.cpp and opening CUDA on a cold disk takes tens of seconds."""
_STABLE_S = 60.0
"""Deaths are no longer counted as consecutive after a worker has been ready this long."""


class WorkerOwner(Protocol):
    """Who loads models into workers. Both methods are called on the event loop and must not block."""

    def on_notice(self, worker: Worker, notice: RelayedNotice) -> None: ...
    def on_death(self, worker: Worker, reason: str) -> None:
        """The process has exited without having been asked to; `reason` names cause and exit code."""
        ...


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a Worker is made from. `command` makes the command line, given the inherited socket's descriptor;
    `environment` is laid over the parent's; `kill_grace_s` is how long each of Shutdown and SIGTERM may take; `clock`
    gives monotonic seconds."""

    id: str
    devices: tuple[str, ...]
    command: Callable[[int], list[str]]
    environment: Mapping[str, str] = field(default_factory=dict)
    kill_grace_s: float = 5.0
    clock: Callable[[], float] = lambda: asyncio.get_running_loop().time()


class Worker:
    """A process for one set of devices, over any number of restarts.

    `restarts` counts unrequested exits, `load_cycles` loads into the present process, `unloads` out of it; `rss_bytes`
    is as of the last heartbeat.
    """

    def __init__(self, settings: WorkerSettings, owner: WorkerOwner) -> None:
        self.id = settings.id
        self.devices = settings.devices
        self.state: WorkerState = "stopped"
        self.pid: int | None = None
        self.rss_bytes = 0
        self.restarts = 0
        self.load_cycles = 0
        self.unloads = 0
        self.exit_code: int | None = None
        self.llama_cpp = ""
        self.last_notice_at: float | None = None
        self._settings = settings
        self._owner = owner
        self._log = LogTail()
        self._link: WorkerLink | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._exited: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[None] | None = None
        self._starting: asyncio.Task[None] | None = None
        self._spawning: asyncio.Task[None] | None = None
        self._stop_requested = asyncio.Event()
        self._deaths = 0
        self._died_at = 0.0
        self._ready_at = 0.0
        self._kill_reason = ""

    # ---- commands

    async def ensure_ready(self) -> None:
        """Start the process if need be, after the back-off, and wait until it is ready. Raises WorkerDied."""
        if self.state == "ready":
            return
        if self.state == "draining" and self._exited is not None:
            await asyncio.wait([self._exited])
        if self._starting is None or self._starting.done():
            self._stop_requested.clear()
            self._starting = asyncio.create_task(self._start(), name=f"start-{self.id}")
            self._starting.add_done_callback(_mark_retrieved)
        await asyncio.shield(self._starting)

    def send(self, command: Command) -> None:
        """Raises WorkerDied when there is no process to receive it."""
        if self._link is None:
            raise WorkerDied(f"worker {self.id} is {self.state}")
        self._link.send(command)

    async def stop(self) -> None:
        """Send Shutdown, then SIGTERM, then SIGKILL, each after the grace period; returns when the process has exited.

        The state is draining as soon as this is called: a load that comes later waits for the next process.
        """
        self._stop_requested.set()
        if self._spawning is not None and not self._spawning.done():
            await asyncio.wait([self._spawning])
        if self.state in ("starting", "ready"):
            self._transition(WorkerEvent.DRAIN)
            with suppress(WorkerDied):
                self.send(Shutdown())
        if self.state == "draining":
            await self._wait_for_exit()

    async def _wait_for_exit(self) -> None:
        assert self._exited is not None
        for number in (signal.SIGTERM, signal.SIGKILL):
            done, _ = await asyncio.wait([self._exited], timeout=self._settings.kill_grace_s)
            if done:
                return
            logger.warning("worker did not exit in time", extra={"worker": self.id, "signal": number.name})
            self._signal(number)
        await asyncio.wait([self._exited])

    def kill(self, reason: str) -> None:
        """Send SIGKILL, which ends stopped processes too; the death is reported to the owner with the first `reason`
        that was given."""
        self._kill_reason = self._kill_reason or reason
        self._signal(signal.SIGKILL)

    def silent_s(self) -> float | None:
        """Seconds since the last notice; None while there is no process that should send any."""
        if self.state not in ("ready", "draining") or self.last_notice_at is None:
            return None
        return self._settings.clock() - self.last_notice_at

    def status(self) -> WorkerStatus:
        return WorkerStatus(
            id=self.id,
            state=self.state,
            devices=list(self.devices),
            pid=self.pid,
            rss_bytes=self.rss_bytes,
            restarts=self.restarts,
            load_cycles=self.load_cycles,
            heartbeat_age_s=self.silent_s(),
            exit_code=self.exit_code,
            log_tail=self.log_tail if self.state == "dead" else [],
        )

    @property
    def log_tail(self) -> list[str]:
        return self._log.lines

    # ---- start

    async def _start(self) -> None:
        await self._back_off()
        # A task of its own: when the caller is cancelled, the spawn still finishes and its process is recorded.
        self._spawning = asyncio.create_task(self._spawn(), name=f"spawn-{self.id}")
        await asyncio.shield(self._spawning)
        assert self._ready is not None
        try:
            async with asyncio.timeout(_START_S):
                await self._ready
        except TimeoutError:
            self.kill(f"was not ready within {_START_S:.0f} s of its start")
            raise WorkerDied(f"worker {self.id} did not start within {_START_S:.0f} s") from None

    async def _back_off(self) -> None:
        """The pause after a death; ended early, with WorkerDied, by a stop."""
        pause_s = self._died_at + backoff_s(self._deaths) - self._settings.clock()
        if self.state == "dead" and pause_s > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stop_requested.wait()
        if self._stop_requested.is_set():
            raise WorkerDied(f"worker {self.id} is stopping")

    async def _spawn(self) -> None:
        self._ready = asyncio.get_running_loop().create_future()
        self._ready.add_done_callback(_mark_retrieved)
        self._kill_reason = ""
        try:
            self._process, ours = await spawn_worker(self._settings.command, self._settings.environment)
        except OSError as error:  # out of processes or descriptors, or the program has been moved away
            raise WorkerDied(f"worker {self.id} can't be started: {error}") from error
        self._transition(WorkerEvent.SPAWNED)
        self.pid, self.exit_code, self._log = self._process.pid, None, LogTail()
        self.load_cycles = self.unloads = 0
        prefer_oom_kill(self.pid)
        self._link = await connect(ours, self._on_notice, self._on_close)
        self._exited = asyncio.create_task(self._read_until_exit(self._process), name=f"worker-{self.id}")

    async def _read_until_exit(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while data := await process.stdout.read(65536):
            for line in self._log.feed(data):
                logger.debug("llama.cpp: %s", line, extra={"worker": self.id})
        self._on_exit(await process.wait())

    # ---- events

    def _on_notice(self, notice: RelayedNotice) -> None:
        self.last_notice_at = self._settings.clock()
        match notice:
            case Ready():
                self._on_ready(notice)
            case Heartbeat():
                self.rss_bytes = notice.rss_bytes
        self._owner.on_notice(self, notice)

    def _on_ready(self, notice: Ready) -> None:
        if self.state != "starting":
            return
        self._transition(WorkerEvent.READY)
        self._ready_at = self._settings.clock()
        self.llama_cpp = notice.llama_cpp
        assert self._ready is not None
        if not self._ready.done():
            self._ready.set_result(None)
        logger.info("worker ready", extra={"worker": self.id, "pid": notice.pid, "sees": notice.devices})

    def _on_close(self, error: Exception | None) -> None:
        """A worker that no command can reach any more is killed, unless it is exiting already."""
        self._link = None
        if error is not None:
            self.kill(f"its link broke: {error}")

    def _on_exit(self, code: int) -> None:
        requested = self.state == "draining"
        self._transition(WorkerEvent.EXITED)
        self.exit_code, self.pid, self.rss_bytes, self.last_notice_at = code, None, 0, None
        if self._link is not None:
            self._link.close()
            self._link = None
        if requested:
            self._deaths = 0
            logger.info("worker stopped", extra={"worker": self.id, "exit_code": code})
            return
        self._on_death(code)

    def _on_death(self, code: int) -> None:
        now = self._settings.clock()
        stable = self._ready_at and now - self._ready_at > _STABLE_S
        self._deaths = 1 if stable else self._deaths + 1
        self._died_at, self._ready_at = now, 0.0
        self.restarts += 1
        reason = f"worker {self.id} {self._kill_reason or 'died'} ({exit_reason(code)})"
        logger.error("worker died", extra={"worker": self.id, "reason": reason, "log": self.log_tail[-5:]})
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(WorkerDied(reason))
        self._owner.on_death(self, reason)

    def _transition(self, event: WorkerEvent) -> None:
        self.state = next_state(self.state, event)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                # Not Process.send_signal: subprocess.Popen polls first and so reaps a process that has just exited;
                # asyncio's child watcher then finds no child and reports exit code 255.
                os.kill(self._process.pid, number)


def _mark_retrieved(future: asyncio.Future[None]) -> None:
    """Read the exception of a failed start: asyncio would log it if every caller had been cancelled."""
    if not future.cancelled():
        future.exception()
