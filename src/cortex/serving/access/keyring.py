"""API keys: who may ask, and under which name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from cortex.config.settings import AuthConfig
from cortex.errors import ConfigError, Unauthorized

__all__ = ["Keyring"]


class Keyring:
    """The keys in force. `reload` replaces them as a whole; until then nothing changes.

    Keys are looked up by their SHA-256, so that the time a look-up takes says nothing about a key.
    """

    def __init__(self, config: AuthConfig) -> None:
        self._principals = _principals(config)

    def reload(self, config: AuthConfig) -> None:
        """Raises ConfigError and keeps the old keys when the new file can't be read."""
        self._principals = _principals(config)

    @property
    def is_open(self) -> bool:
        """Whether no key is configured, which lets everyone in."""
        return not self._principals

    def principal_of(self, headers: Mapping[str, str]) -> str | None:
        """The name behind `Authorization: Bearer` or `x-api-key`; either may hold a valid key (some clients send both).

        None when no keys are configured. Raises Unauthorized.
        """
        if self.is_open:
            return None
        presented = [key for key in (_bearer(headers.get("authorization", "")), headers.get("x-api-key", "")) if key]
        for key in presented:
            if principal := self._principals.get(_digest(key)):
                return principal
        if presented:
            raise Unauthorized("the API key is not known here")
        raise Unauthorized("an API key is needed: send Authorization: Bearer <key> or x-api-key: <key>")


def _bearer(header: str) -> str:
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _principals(config: AuthConfig) -> dict[bytes, str]:
    keys = config.keys if isinstance(config.keys, dict) else _numbered(config.keys)
    if config.keys_file:
        keys = keys | _from_file(Path(config.keys_file).expanduser())
    if "" in keys:
        raise ConfigError("auth.keys: an empty key would let everyone in")
    return {_digest(key): name for key, name in keys.items()}


def _numbered(keys: list[str]) -> dict[str, str]:
    return {key: f"key-{number}" for number, key in enumerate(keys, 1)}


def _from_file(path: Path) -> dict[str, str]:
    """One `key name` a line; empty lines and those that start with # don't count."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise ConfigError(f"auth.keys_file: {path}: {error.strerror}") from error
    words = [line.split(maxsplit=1) for line in lines if line.strip() and not line.lstrip().startswith("#")]
    return {word[0]: word[1].strip() if len(word) > 1 else f"key-{number}" for number, word in enumerate(words, 1)}
