from __future__ import annotations

import asyncio

from cortex.neuron.api.batch_queue import Outbox


async def test_what_was_put_since_the_last_look_is_one_batch() -> None:
    outbox: Outbox[int] = Outbox()
    batches = outbox.batches()
    outbox.put(1)
    outbox.put(2)
    assert await anext(batches) == [1, 2]
    outbox.put(3)
    assert await anext(batches) == [3]
    await batches.aclose()


async def test_a_waiting_reader_is_woken_once_for_all_that_one_turn_of_the_loop_brings() -> None:
    outbox: Outbox[int] = Outbox()
    batches = outbox.batches()
    waiting = asyncio.ensure_future(anext(batches))
    await asyncio.sleep(0)
    for item in range(8):
        outbox.put(item)
    assert await waiting == list(range(8))
    await batches.aclose()


async def test_closing_lets_out_what_was_put_before() -> None:
    outbox: Outbox[int] = Outbox()
    outbox.put(1)
    outbox.close()
    assert [batch async for batch in outbox.batches()] == [[1]]
    assert [batch async for batch in outbox.batches()] == []
