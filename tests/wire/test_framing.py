"""Messages survive framing, however the stream is cut."""

from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.wire.events import Event, TextDelta
from cortex.wire.framing import MAX_FRAME_BYTES, FrameDecoder, FrameTooLarge, encode_frame
from cortex.wire.worker import Emission, Emissions, RelayedEmissions

MESSAGES = st.lists(st.recursive(st.integers(-(2**31), 2**31) | st.text(), st.lists, max_leaves=5), max_size=6)


def decoder() -> FrameDecoder[object]:
    return FrameDecoder(msgspec.msgpack.Decoder())


@given(messages=MESSAGES, data=st.data())
def test_any_cut_gives_the_same_messages(messages: list[object], data: st.DataObject) -> None:
    stream = b"".join(encode_frame(message) for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    frames = decoder()
    got = [
        message
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
        for message in frames.feed(stream[start:end])
    ]
    assert got == messages
    assert frames.pending == 0


def test_pending_counts_the_bytes_of_a_frame_cut_short() -> None:
    frames = decoder()
    assert frames.feed(encode_frame("hello")[:-1]) == []
    assert frames.pending == len(encode_frame("hello")) - 1


def test_an_absurd_length_is_refused_before_it_is_buffered() -> None:
    with pytest.raises(FrameTooLarge):
        decoder().feed(struct.pack(">I", MAX_FRAME_BYTES + 1))


def test_a_body_of_another_shape_is_a_decode_error() -> None:
    frames = FrameDecoder(msgspec.msgpack.Decoder(list[Event]))
    with pytest.raises(msgspec.DecodeError):
        frames.feed(encode_frame({"not": "events"}))


def test_events_keep_their_types() -> None:
    frames = FrameDecoder(msgspec.msgpack.Decoder(list[Event]))
    assert frames.feed(encode_frame([TextDelta("hi", choice=1)])) == [[TextDelta("hi", choice=1)]]


def test_what_a_message_refers_to_stays_when_more_comes() -> None:
    """msgspec.Raw is a view into the bytes it was decoded from."""
    frames = FrameDecoder(msgspec.msgpack.Decoder(RelayedEmissions))
    stream = b"".join(encode_frame(Emissions([Emission.of(str(n), [TextDelta("x" * n)])])) for n in range(20))
    got = [message for byte in stream for message in frames.feed(bytes([byte]))]
    decoded = [msgspec.msgpack.decode(message.items[0].events, type=list[Event]) for message in got]
    assert decoded == [[TextDelta("x" * n)] for n in range(20)]


def test_a_message_beyond_the_limit_is_refused_by_its_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cortex.wire.framing.MAX_FRAME_BYTES", 10)
    with pytest.raises(FrameTooLarge):
        encode_frame("x" * 20)
