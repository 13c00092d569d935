"""Plays a script through a dialect, and keeps what comes out as golden files.

`CORTEX_REGENERATE_GOLDEN=1 pytest tests/dialects` writes the files anew; read the diff before committing it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cortex.dialects.base import Call, CallContext, ErrorEncoder
from cortex.wire.events import Failed
from tests.dialects.scripts import SILENCE, Script

__all__ = ["CONTEXT", "GOLDEN", "Dialect", "assert_golden", "collect", "stream", "stream_pieces"]

GOLDEN = Path(__file__).parent / "golden"
CONTEXT = CallContext(request_id="0123456789abcdef", created=1700000000, resolve=lambda name: name or "demo")
"""Fixed identity and time: what is rendered twice is equal."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One dialect under test: how a client would have asked for `script`, and the code that answers.

    `tells` leaves out scripts that the dialect's clients can't ask for.
    """

    name: str
    body: Callable[[Script, bool], bytes]
    parse: Callable[[bytes, CallContext], Call]
    encode_error: ErrorEncoder
    tells: Callable[[Script], bool] = lambda _: True

    def call(self, script: Script, *, stream: bool) -> Call:
        return self.parse(self.body(script, stream), CONTEXT)


def stream(dialect: Dialect, script: Script) -> bytes:
    """The whole SSE body, as the serving layer would write it."""
    return b"".join(stream_pieces(dialect.call(script, stream=True), script))


def stream_pieces(call: Call, script: Script) -> list[bytes]:
    """What each step of the script puts on the wire."""
    renderer = call.renderer()
    pieces: list[bytes] = []
    for step in script.steps:
        if step == SILENCE:
            pieces.append(renderer.keepalive())
        elif isinstance(step[-1], Failed):
            pieces.append(renderer.feed(0, step[:-1]) + renderer.fail(step[-1].to_error()))
        else:
            pieces.append(renderer.feed(0, step))
    return pieces


def collect(dialect: Dialect, script: Script) -> bytes:
    """The whole JSON body; for a failing script the error envelope that takes its place."""
    collector = dialect.call(script, stream=False).collector()
    for step in script.steps:
        if step == SILENCE:
            continue
        if isinstance(step[-1], Failed):
            return dialect.encode_error(step[-1].to_error(), CONTEXT.request_id)
        collector.feed(0, step)
    return collector.finish()


def assert_golden(dialect: str, script: str, kind: str, content: bytes) -> None:
    """`content` equals golden/<dialect>/<script>.<kind>, byte by byte."""
    path = GOLDEN / dialect / f"{script}.{kind}"
    if os.environ.get("CORTEX_REGENERATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert path.exists(), f"{path.name} is missing: run with CORTEX_REGENERATE_GOLDEN=1 and read what it writes"
    assert content.decode() == path.read_text()
