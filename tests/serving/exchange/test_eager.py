"""What runs at once, and what is left for a task."""

from __future__ import annotations

import asyncio

import pytest

from cortex.serving.exchange.eager import begin


async def test_work_that_need_not_wait_is_done_at_once() -> None:
    done: list[str] = []

    async def work() -> None:
        done.append("all")

    assert begin(work()) is None
    assert done == ["all"]


async def test_work_that_has_to_wait_goes_on_in_a_task() -> None:
    done: list[str] = []
    first, second = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        done.append("begun")
        await first.wait()
        await second.wait()
        done.append("ended")

    rest = begin(work())
    assert rest is not None
    assert done == ["begun"]
    task = asyncio.create_task(rest)
    first.set()
    await asyncio.sleep(0)
    second.set()
    await task
    assert done == ["begun", "ended"]


async def test_a_cancel_reaches_the_work() -> None:
    lock = asyncio.Lock()

    async def work() -> None:
        async with lock:
            await asyncio.Event().wait()

    rest = begin(work())
    assert rest is not None
    task = asyncio.create_task(rest)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not lock.locked()


async def test_what_the_work_raises_is_raised_where_it_is() -> None:
    async def fails(gate: asyncio.Event) -> None:
        await gate.wait()
        raise ValueError("no")

    opened = asyncio.Event()
    opened.set()
    with pytest.raises(ValueError, match="no"):
        begin(fails(opened))
    closed = asyncio.Event()
    rest = begin(fails(closed))
    assert rest is not None
    closed.set()
    with pytest.raises(ValueError, match="no"):
        await asyncio.create_task(rest)
