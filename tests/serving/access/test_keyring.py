"""API keys: which are accepted, where, and what their owner is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cortex.config.settings import AuthConfig, Config
from cortex.errors import ConfigError, Unauthorized
from cortex.serving.access.keyring import Keyring
from tests.serving.conftest import Serve

KEYS = AuthConfig(keys={"sk-alice": "alice", "sk-bob": "bob"})
CHAT: dict[str, Any] = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer sk-alice"},
        {"authorization": "bearer  sk-alice"},
        {"x-api-key": "sk-alice"},
        {"x-api-key": "sk-alice", "authorization": "Bearer sk-alice"},
        {"x-api-key": "dummy", "authorization": "Bearer sk-alice"},
        {"x-api-key": "sk-alice", "authorization": "Bearer dummy"},
    ],
)
def test_a_known_key_is_accepted_in_either_header(headers: dict[str, str]) -> None:
    assert Keyring(KEYS).principal_of(headers) == "alice"


@pytest.mark.parametrize(
    "headers", [{}, {"authorization": "Bearer nope"}, {"authorization": "Basic sk-alice"}, {"x-api-key": "SK-ALICE"}]
)
def test_anything_else_is_unauthorised(headers: dict[str, str]) -> None:
    with pytest.raises(Unauthorized):
        Keyring(KEYS).principal_of(headers)


def test_without_keys_everyone_is_anonymous_whatever_they_send() -> None:
    assert Keyring(AuthConfig()).principal_of({"authorization": "Bearer anything"}) is None


def test_a_list_of_keys_gives_numbered_principals() -> None:
    assert Keyring(AuthConfig(keys=["a", "b"])).principal_of({"x-api-key": "b"}) == "key-2"


def test_a_keys_file_is_read_and_read_again_on_reload(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# comment\n\nsk-1 carol of sales\nsk-2\n")
    config = AuthConfig(keys_file=str(path))
    keyring = Keyring(config)
    assert keyring.principal_of({"x-api-key": "sk-1"}) == "carol of sales"
    assert keyring.principal_of({"x-api-key": "sk-2"}) == "key-2"
    path.write_text("sk-3 dave\n")
    keyring.reload(config)
    assert keyring.principal_of({"x-api-key": "sk-3"}) == "dave"
    with pytest.raises(Unauthorized):
        keyring.principal_of({"x-api-key": "sk-1"})


def test_a_reload_that_fails_keeps_the_old_keys(tmp_path: Path) -> None:
    keyring = Keyring(KEYS)
    with pytest.raises(ConfigError, match="keys_file"):
        keyring.reload(AuthConfig(keys_file=str(tmp_path / "missing")))
    assert keyring.principal_of({"x-api-key": "sk-bob"}) == "bob"


def test_an_empty_key_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="empty key"):
        Keyring(AuthConfig(keys=[""]))


async def test_every_route_but_health_asks_for_a_key(serve: Serve) -> None:
    async with serve(config=Config(auth=KEYS)) as running:
        for path in ("/v1/models", "/v1/models/demo", "/version", "/schema/openapi.json", "/v1/responses/x"):
            reply = await running.http.get(path)
            assert reply.status_code == 401, path
            assert reply.headers["www-authenticate"] == "Bearer"
            assert reply.json()["error"]["code"] == "invalid_api_key"
        assert (await running.http.get("/health")).status_code == 200
        assert (await running.http.post("/v1/chat/completions", json=CHAT)).status_code == 401
        assert running.backend.requests == []


async def test_the_principal_travels_with_the_request(serve: Serve) -> None:
    async with serve(config=Config(auth=KEYS)) as running:
        await running.http.post("/v1/chat/completions", json=CHAT, headers={"x-api-key": "sk-bob"})
    assert running.backend.requests[0].principal == "bob"
    assert running.records[0].principal == "bob"


async def test_a_missing_key_on_an_anthropic_route_is_an_authentication_error(serve: Serve) -> None:
    async with serve(config=Config(auth=KEYS)) as running:
        reply = await running.http.post("/v1/messages", json=CHAT)
    assert reply.status_code == 401
    assert reply.json()["error"]["type"] == "authentication_error"
