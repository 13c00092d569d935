"""The response store in a SQLite file, which survives a restart. One process may use a file at a time."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Raw

from cortex.dialects.openai.responses.stored import StoredResponse
from cortex.errors import ConfigError, InternalError

__all__ = ["SqliteResponseStore"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS responses (
    id TEXT PRIMARY KEY, created INTEGER NOT NULL, used REAL NOT NULL, principal TEXT, items BLOB NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS responses_used ON responses (used);
"""
_ITEMS = msgspec.json.Decoder(list[Raw])


class SqliteResponseStore:
    """A `ResponseStore` on disk: the `max_entries` responses that were used last, each for at most `max_age_s`.

    Statements run in a thread of their own, because disk access blocks. `now` returns Unix seconds. Raises ConfigError
    when the file can't be opened. Call `close` at the end.
    """

    def __init__(self, path: Path, max_entries: int, max_age_s: float, now: Callable[[], float]) -> None:
        self._path = path
        self._max_entries = max_entries
        self._max_age_s = max_age_s
        self._now = now
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="responses")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, check_same_thread=False)
            self._database.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; {_SCHEMA}")
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(f"responses.store = {str(path)!r} can't be used: {error}") from error

    async def get(self, response_id: str, principal: str | None) -> StoredResponse | None:
        return await self._run(lambda: self._get(response_id, principal))

    async def put(self, response: StoredResponse) -> None:
        """A failure (a full disk) is logged and not raised, because the client's answer is complete."""
        try:
            await self._run(lambda: self._put(response))
        except InternalError as error:
            logger.exception("response not stored: %s", error.message)

    async def delete(self, response_id: str, principal: str | None) -> bool:
        return await self._run(lambda: self._delete(response_id, principal))

    async def close(self) -> None:
        await self._run(self._database.close)
        self._thread.shutdown()

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            raise InternalError(f"the response store {self._path} failed: {error}") from error

    def _get(self, response_id: str, principal: str | None) -> StoredResponse | None:
        with self._database as database:
            row = database.execute(
                "UPDATE responses SET used = ? WHERE id = ? AND principal IS ? AND created >= ? "
                "RETURNING created, items, body",
                (self._now(), response_id, principal, self._oldest()),
            ).fetchone()
        if row is None:
            return None
        created, items, body = row
        return StoredResponse(response_id, created, principal, _ITEMS.decode(items), Raw(body))

    def _put(self, response: StoredResponse) -> None:
        row = (
            response.id,
            response.created,
            self._now(),
            response.principal,
            msgspec.json.encode(response.items),
            bytes(response.body),
        )
        with self._database as database:
            database.execute("INSERT OR REPLACE INTO responses VALUES (?, ?, ?, ?, ?, ?)", row)
            database.execute("DELETE FROM responses WHERE created < ?", (self._oldest(),))
            database.execute(
                "DELETE FROM responses WHERE id NOT IN (SELECT id FROM responses ORDER BY used DESC LIMIT ?)",
                (self._max_entries,),
            )

    def _delete(self, response_id: str, principal: str | None) -> bool:
        with self._database as database:
            found = database.execute(
                "DELETE FROM responses WHERE id = ? AND principal IS ? AND created >= ?",
                (response_id, principal, self._oldest()),
            )
            return found.rowcount > 0

    def _oldest(self) -> float:
        return self._now() - self._max_age_s
