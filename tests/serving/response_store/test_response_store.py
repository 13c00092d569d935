"""One contract, two stores: what is put is found by its owner until it is too old, deleted or one of too many."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from msgspec import Raw

from cortex.dialects.openai.responses.objects import deleted_reply
from cortex.dialects.openai.responses.stored import StoredResponse
from cortex.errors import ConfigError
from cortex.serving.response_store.memory import MemoryResponseStore, ResponseStore
from cortex.serving.response_store.sqlite import SqliteResponseStore


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[ResponseStore]:
    if request.param == "memory":
        yield MemoryResponseStore(max_entries=3, max_age_s=100, now=clock)
        return
    on_disk = SqliteResponseStore(tmp_path / "deep" / "responses.db", max_entries=3, max_age_s=100, now=clock)
    yield on_disk
    await on_disk.close()


def response(name: str, clock: Clock, principal: str | None = "ada") -> StoredResponse:
    items = [Raw(b'{"type":"message","role":"user","content":"hi"}'), Raw(b'{"type":"reasoning","summary":[]}')]
    return StoredResponse(name, int(clock.now), principal, items, Raw(b'{"id":"%s"}' % name.encode()))


def content(found: StoredResponse | None) -> bytes:
    assert found is not None
    return msgspec.json.encode([found.id, found.created, found.principal, found.items, found.body])


async def test_what_was_put_is_found_as_it_was(store: ResponseStore, clock: Clock) -> None:
    put = response("a", clock)
    await store.put(put)
    assert content(await store.get("a", "ada")) == content(put)


async def test_a_response_of_nobody_is_found_by_nobody(store: ResponseStore, clock: Clock) -> None:
    """Without API keys every request is anonymous, and shares its responses with the others."""
    await store.put(response("a", clock, principal=None))
    assert await store.get("a", None) is not None
    assert await store.get("a", "ada") is None


async def test_another_principal_finds_and_deletes_nothing(store: ResponseStore, clock: Clock) -> None:
    await store.put(response("a", clock))
    assert await store.get("a", "bob") is None
    assert not await store.delete("a", "bob")
    assert await store.get("a", "ada") is not None


async def test_a_deleted_response_is_gone_and_deleting_tells_whether_it_was(store: ResponseStore, clock: Clock) -> None:
    await store.put(response("a", clock))
    assert await store.delete("a", "ada")
    assert not await store.delete("a", "ada")
    assert await store.get("a", "ada") is None


async def test_the_least_recently_used_go_when_there_are_too_many(store: ResponseStore, clock: Clock) -> None:
    for name in "abc":
        await store.put(response(name, clock))
    await store.get("a", "ada")
    await store.put(response("d", clock))
    found = [name for name in "abcd" if await store.get(name, "ada")]
    assert found == ["a", "c", "d"]


async def test_an_old_response_is_not_found_however_often_it_was_used(store: ResponseStore, clock: Clock) -> None:
    await store.put(response("a", clock))
    clock.now += 60
    assert await store.get("a", "ada") is not None
    clock.now += 60
    assert await store.get("a", "ada") is None
    assert not await store.delete("a", "ada")


async def test_memory_is_bounded_by_bytes_too(clock: Clock) -> None:
    """A response beyond the whole bound isn't kept, and drives no other out."""
    store = MemoryResponseStore(max_entries=100, max_age_s=100, now=clock, max_bytes=2 * response("a", clock).size)
    for name in "abb":
        await store.put(response(name, clock))
    assert await store.get("a", "ada") is not None
    await store.put(response("c", clock))
    assert [name for name in "abc" if await store.get(name, "ada")] == ["a", "c"]
    await store.put(StoredResponse("d", int(clock.now), "ada", [Raw(b"0" * 1000)], Raw(b"{}")))
    assert [name for name in "abcd" if await store.get(name, "ada")] == ["a", "c"]


async def test_a_file_is_read_again_after_a_restart(tmp_path: Path, clock: Clock) -> None:
    before = SqliteResponseStore(tmp_path / "r.db", 10, 100, clock)
    await before.put(response("a", clock))
    await before.close()
    after = SqliteResponseStore(tmp_path / "r.db", 10, 100, clock)
    assert await after.get("a", "ada") is not None
    await after.close()


async def test_a_store_that_fails_to_write_says_so_in_the_log_and_spares_the_answer(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store = SqliteResponseStore(tmp_path / "r.db", 10, 100, clock)
    store._database.execute("DROP TABLE responses")
    await store.put(response("a", clock))
    await store.close()
    assert "response not stored" in caplog.text


def test_a_path_that_is_no_file_is_an_error_of_the_config(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(ConfigError, match=r"responses\.store"):
        SqliteResponseStore(tmp_path, 10, 100, clock)


def test_the_deleted_reply_names_what_was_deleted() -> None:
    assert deleted_reply("resp_1") == b'{"id":"resp_1","object":"response","deleted":true}'
