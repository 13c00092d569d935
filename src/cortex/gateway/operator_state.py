"""Operators' pins and drains, saved in a file so that a restarted gateway still has them."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from cortex.config.settings import GatewayConfig, split_listen
from cortex.gateway.scheduling.effects import OperatorState

__all__ = ["OperatorStateFile", "operator_state_path"]

logger = logging.getLogger(__name__)


def operator_state_path(config: GatewayConfig) -> Path | None:
    """The file of a gateway: one per listen address, since gateways on one host must not share it.

    None where the system chooses the port: the next start could not find the file.
    """
    host, port = split_listen(config.listen)
    return config.state_path / f"gateway-{host.replace(':', '.')}-{port}.json" if port else None


class OperatorStateFile:
    """The file that holds an OperatorState; with `path` None nothing is saved.

    A file that can't be read or written is logged and otherwise ignored: the gateway serves without it. Blocking I/O of
    a few hundred bytes.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def load(self) -> OperatorState:
        """The saved state; an empty one where there is none or it can't be read."""
        if self._path is None:
            return OperatorState()
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=OperatorState)
        except FileNotFoundError:
            return OperatorState()
        except (OSError, msgspec.DecodeError) as error:
            logger.error("saved pins and drains can't be read", extra={"file": str(self._path), "why": str(error)})  # noqa: TRY400
            return OperatorState()

    def save(self, operator_state: OperatorState) -> None:
        """Replace the file atomically: a crash while writing leaves it as it was."""
        if self._path is None:
            return
        temporary = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(msgspec.json.format(msgspec.json.encode(operator_state)) + b"\n")
            temporary.replace(self._path)
        except OSError as error:
            logger.error("pins and drains are not kept", extra={"file": str(self._path), "why": str(error)})  # noqa: TRY400
