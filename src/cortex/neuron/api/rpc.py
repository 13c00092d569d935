"""This host's devices, offered to other hosts' workers by a child process that speaks ggml's RPC."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
from contextlib import suppress

from cortex.config.settings import split_listen
from cortex.errors import ConfigError
from cortex.neuron.workers.spawn import QUIET_ABORT, LogTail, python_command
from cortex.neuron.workers.states import backoff_s

__all__ = ["RpcServer", "check_rpc_listen"]

logger = logging.getLogger(__name__)


def check_rpc_listen(listen: str) -> None:
    """Raises ConfigError unless `listen` is one loopback or private address: whoever reaches it owns the process."""
    host, _ = split_listen(listen)
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise ConfigError(f"neuron.rpc_listen = {listen!r}: write an IP address, not a name") from None
    if address.is_unspecified or not address.is_private:
        raise ConfigError(
            f"neuron.rpc_listen = {listen!r}: ggml's RPC knows no passwords, so it may only listen on a loopback or "
            "private address; write the one that the other hosts reach this one by"
        )
    if not address.is_loopback:
        logger.warning("devices are offered without authentication", extra={"rpc_listen": listen})


class RpcServer:
    """Keeps the child process running; restarted with back-off, gone when `run` is cancelled."""

    def __init__(self, listen: str, threads: int | None) -> None:
        self._command = python_command("cortex.engine.tools.rpc_server", "--listen", listen)
        self._command += ["--threads", str(threads)] if threads else []
        self._listen = listen

    async def run(self) -> None:
        """Until cancelled."""
        failures = 0
        while True:
            await asyncio.sleep(backoff_s(failures))
            failures = min(failures + 1, 10)
            code, words = await self._live()
            logger.error("RPC device server ended", extra={"exit_code": code, "listen": self._listen, "log": words})

    async def _live(self) -> tuple[int, list[str]]:
        # Its stdin is held open and never written to: when this process dies, the child reads the end and goes too.
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **QUIET_ABORT},
            start_new_session=True,
        )
        logger.info("offering devices by RPC", extra={"listen": self._listen, "pid": process.pid})
        log = LogTail(keep=5)
        try:
            assert process.stdout is not None
            while data := await process.stdout.read(65536):
                log.feed(data)
            return await process.wait(), log.lines
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
