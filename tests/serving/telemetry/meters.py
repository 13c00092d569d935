"""Meters that have measured a request, for tests."""

from __future__ import annotations

from cortex.serving.telemetry.records import RequestMeter
from cortex.wire.events import ChoiceFinished, Finished, Progress, Started, TextDelta, Usage

__all__ = ["Clock", "meter", "run_plain"]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def meter(clock: Clock) -> RequestMeter:
    return RequestMeter("r1", "openai_chat", "m", "alice", clock)


def run_plain(clock: Clock) -> RequestMeter:
    watched = meter(clock)
    watched.feed([Progress("loading")])
    clock.now += 2.0
    watched.feed([Started(10, 4, "beast")])
    watched.feed([TextDelta("a")])
    clock.now += 1.0
    watched.feed([TextDelta("b"), TextDelta("c")])
    watched.feed([ChoiceFinished("stop"), Finished(usage=Usage(10, 4, 3, 0))])
    return watched
