"""Where data waits for a slow client: in order, bounded, and without a task while the client reads."""

from __future__ import annotations

import asyncio
from typing import Any

from cortex.serving.exchange.response_writer import CONNECTION, ClientTooSlow, ResponseWriter


class Connection:
    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.writable = asyncio.Event()
        self.writable.set()
        self.failures = 0
        self.error: Exception | None = None

    @property
    def write_paused(self) -> bool:
        return not self.writable.is_set()

    def abort(self) -> None:
        self.sent.append(b"aborted")

    async def send(self, message: Any) -> None:
        await self.writable.wait()
        if self.error is not None:
            raise self.error
        self.sent.append(message.get("body", b"start"))

    def on_failure(self) -> None:
        self.failures += 1

    def writer(self, max_unsent_bytes: int = 100, *, server: bool = True) -> ResponseWriter:
        scope: Any = {"extensions": {CONNECTION: self}} if server else {}
        return ResponseWriter(scope, self.send, on_failure=self.on_failure, max_unsent_bytes=max_unsent_bytes)


async def until_sent(writer: ResponseWriter) -> None:
    async with asyncio.timeout(60):
        while writer.sending is not None:
            await asyncio.wait({writer.sending})


async def test_a_client_that_reads_costs_no_task() -> None:
    connection = Connection()
    writer = connection.writer()
    tasks = asyncio.all_tasks()
    writer.start(200, [])
    writer.write(b"a")
    writer.write(b"b", more=False)
    assert connection.sent == [b"start", b"a", b"b"]
    assert asyncio.all_tasks() == tasks
    assert not writer.blocked


async def test_nothing_follows_the_end() -> None:
    connection = Connection()
    writer = connection.writer()
    writer.write(b"a", more=False)
    writer.write(b"b")
    writer.write(b"c", more=False)
    assert connection.sent == [b"a"]


async def test_what_waits_leaves_in_order_and_nothing_overtakes_it() -> None:
    connection = Connection()
    writer = connection.writer()
    connection.writable.clear()
    writer.write(b"a")
    writer.write(b"b")
    connection.writable.set()
    writer.write(b"c")
    assert writer.blocked
    await until_sent(writer)
    writer.write(b"d")
    assert connection.sent == [b"a", b"b", b"c", b"d"]


async def test_other_servers_get_the_same_bytes() -> None:
    connection = Connection()
    writer = connection.writer(server=False)
    writer.start(200, [])
    writer.write(b"a")
    writer.write(b"b", more=False)
    await until_sent(writer)
    assert connection.sent == [b"start", b"a", b"b"]


async def test_a_client_that_takes_nothing_fails_when_too_much_waits() -> None:
    connection = Connection()
    writer = connection.writer(max_unsent_bytes=10)
    connection.writable.clear()
    writer.write(b"x" * 20)  # a single write may be of any size
    assert writer.failure is None
    writer.write(b"y")
    writer.write(b"z")
    assert isinstance(writer.failure, ClientTooSlow)
    assert connection.failures == 1
    writer.close()
    await until_sent(writer)
    assert connection.sent == []


async def test_the_bound_counts_what_waits_now() -> None:
    connection = Connection()
    writer = connection.writer(max_unsent_bytes=10)
    for _ in range(5):
        connection.writable.clear()
        writer.write(b"x" * 9)
        connection.writable.set()
        await until_sent(writer)
    assert writer.failure is None


async def test_an_error_of_the_server_is_the_owners() -> None:
    connection = Connection()
    writer = connection.writer()
    connection.writable.clear()
    writer.write(b"a")
    connection.error = RuntimeError("a bug")
    connection.writable.set()
    await until_sent(writer)
    assert writer.failure is connection.error
    assert connection.failures == 1
    assert not writer.blocked


async def test_how_long_a_client_takes_nothing_is_known() -> None:
    connection = Connection()
    writer = connection.writer()
    assert writer.blocked_s() == 0.0
    connection.writable.clear()
    writer.write(b"a")
    writer._taken_at -= 7.0
    assert 7.0 <= writer.blocked_s() < 60.0
    connection.writable.set()
    await until_sent(writer)
    assert writer.blocked_s() == 0.0
