"""Events between two steps."""

from __future__ import annotations

from cortex.engine.request.outbox import EventOutbox
from cortex.wire.events import Started, TextDelta
from cortex.wire.worker import Emission


def test_each_request_gets_its_events_in_order_and_once() -> None:
    outbox = EventOutbox()
    outbox.add("a", Started(3), TextDelta("x"))
    outbox.add("b", Started(4))
    outbox.extend("a", [TextDelta("y")])
    assert outbox
    assert outbox.take() == [
        Emission("a", [Started(3), TextDelta("x"), TextDelta("y")]),
        Emission("b", [Started(4)]),
    ]
    assert not outbox
    assert outbox.take() == []


def test_events_of_a_client_that_has_gone_are_dropped() -> None:
    outbox = EventOutbox()
    outbox.add("a", Started(3))
    outbox.drop("a")
    outbox.drop("never seen")
    assert outbox.take() == []
