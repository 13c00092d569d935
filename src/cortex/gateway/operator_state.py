"""What operators ordered until further notice, pins and drains, kept over a restart in a file of this gateway's own."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from cortex.config.settings import GatewayConfig, split_listen
from cortex.gateway.scheduling.effects import OperatorState

__all__ = ["OperatorStateFile", "file_for"]

logger = logging.getLogger(__name__)


def file_for(config: GatewayConfig) -> Path | None:
    """One for each address, so that two gateways on a host don't share it; None where the system chooses the port."""
    host, port = split_listen(config.listen)
    return config.state_path / f"gateway-{host.replace(':', '.')}-{port}.json" if port else None


class OperatorStateFile:
    """`path` None keeps nothing. A file that can't be read or written is reported and does no more harm than that."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def load(self) -> OperatorState:
        if self._path is None:
            return OperatorState()
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=OperatorState)
        except FileNotFoundError:
            return OperatorState()
        except (OSError, msgspec.DecodeError) as error:
            logger.error("pins and drains of the last run are lost", extra={"file": str(self._path), "why": str(error)})  # noqa: TRY400
            return OperatorState()

    def keep(self, operator_state: OperatorState) -> None:
        """Whole or not at all: a crash while writing leaves the file as it was."""
        if self._path is None:
            return
        fresh = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_bytes(msgspec.json.format(msgspec.json.encode(operator_state)) + b"\n")
            fresh.replace(self._path)
        except OSError as error:
            logger.error("pins and drains are not kept", extra={"file": str(self._path), "why": str(error)})  # noqa: TRY400
