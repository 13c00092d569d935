"""API keys and the principals they belong to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from cortex.config.settings import AuthConfig
from cortex.errors import ConfigError, Unauthorized

__all__ = ["Keyring"]


class Keyring:
    """The configured keys. `reload` replaces all of them at once.

    Keys are looked up by their SHA-256 hash, so that the time of a look-up reveals nothing about a key.
    """

    def __init__(self, config: AuthConfig) -> None:
        self._principals = _principals(config)

    def reload(self, config: AuthConfig) -> None:
        """Raises ConfigError and keeps the old keys when the keys file can't be read."""
        self._principals = _principals(config)

    def differs(self, config: AuthConfig) -> bool:
        """Whether `config`, with its keys file as it is now, has other keys or names. Raises ConfigError."""
        return _principals(config) != self._principals

    @property
    def is_open(self) -> bool:
        """Whether no key is configured: then every request is accepted."""
        return not self._principals

    def principal_of(self, headers: Mapping[str, str]) -> str | None:
        """The principal of the key in `Authorization: Bearer` or `x-api-key`; None when no keys are configured.

        Clients that send both headers need a valid key in one of them. Raises Unauthorized.
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
        raise ConfigError("auth.keys: an empty key would admit every request")
    return {_digest(key): name for key, name in keys.items()}


def _numbered(keys: list[str]) -> dict[str, str]:
    return {key: f"key-{number}" for number, key in enumerate(keys, 1)}


def _from_file(path: Path) -> dict[str, str]:
    """Keys with their names: a key and a name per line; empty lines and lines that start with # are ignored."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise ConfigError(f"auth.keys_file: {path}: {error.strerror}") from error
    words = [line.split(maxsplit=1) for line in lines if line.strip() and not line.lstrip().startswith("#")]
    return {word[0]: word[1].strip() if len(word) > 1 else f"key-{number}" for number, word in enumerate(words, 1)}
