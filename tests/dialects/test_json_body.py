"""Reading bodies: where the caller went wrong, and what is forgiven."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.dialects.json_body import decode_body, wire_safe
from cortex.errors import BadRequest


class Inner(msgspec.Struct):
    x: int


class Body(msgspec.Struct):
    text: str = ""
    items: list[Inner] = []
    raw: msgspec.Raw = msgspec.Raw(b"null")


DECODER = msgspec.json.Decoder(Body)


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        (b"{", None, "not valid JSON"),
        (b"", None, "is empty"),
        (b" \n", None, "is empty"),
        (b'{"text": "\xff"}', None, "not valid JSON"),
        (b"[]", None, "expected `object`"),
        (b'{"text": 1}', "text", "expected `str`, got `int`"),
        (b'{"items": [{"x": 1}, {"x": "1"}]}', "items[...].x", "expected `int`"),
        (b'{"items": [{}]}', "items[...].x", "is required"),
    ],
)
def test_a_wrong_body_is_explained(body: bytes, param: str | None, says: str) -> None:
    with pytest.raises(BadRequest, match=says) as caught:
        decode_body(DECODER, body)
    shown = caught.value.param
    assert shown == param or (param and shown and shown.replace("[0]", "[...]").replace("[1]", "[...]") == param)


@pytest.mark.parametrize(
    ("escaped", "read"),
    [
        (r"cut \ud83d", "cut �"),
        (r"\ude00 cut", "� cut"),
        (r"\ud83d\ude00 whole", "😀 whole"),
        (r"\ud83d\ud83d\ude00", "�😀"),
        (r"\\ud83d stays \ud83d", "\\ud83d stays �"),
    ],
)
def test_half_an_emoji_is_forgiven(escaped: str, read: str) -> None:
    assert decode_body(DECODER, f'{{"text": "{escaped}"}}'.encode()).text == read


def test_a_byte_order_mark_is_skipped() -> None:
    """PowerShell writes one in front of a file's text."""
    assert decode_body(DECODER, b'\xef\xbb\xbf{"text": "x"}').text == "x"


@given(st.text(st.characters(codec=None), max_size=20))
def test_whatever_javascript_can_stringify_can_be_read(text: str) -> None:
    """Lone surrogates included."""
    assert len(decode_body(DECODER, json.dumps({"text": text}).encode()).text) <= len(text)


def test_integers_that_cannot_cross_the_wire_are_refused() -> None:
    assert wire_safe({"a": 2**64 - 1}, "schema") == {"a": 2**64 - 1}
    with pytest.raises(BadRequest, match="64 bits"):
        wire_safe({"a": [2**64]}, "schema")


def test_whole_floats_become_integers_only_where_an_integer_is_expected() -> None:
    """What else the body holds keeps its text: 1.10 is not 1.1 to a model."""
    read = decode_body(DECODER, b'{"raw": {"a": 1.10, "b": 2.0}, "items": [{"x": 1.0}, {"x": 2}, {"x": 3e2}]}')
    assert [item.x for item in read.items] == [1, 2, 300]
    assert bytes(read.raw) == b'{"a": 1.10, "b": 2.0}'


@pytest.mark.parametrize("number", ["1.5", "1e400", "1e-2", "-0.25"])
def test_other_floats_are_no_integers(number: str) -> None:
    with pytest.raises(BadRequest):
        decode_body(DECODER, f'{{"items": [{{"x": {number}}}]}}'.encode())


@given(st.integers(-(10**20), 10**20), st.integers(0, 5))
def test_every_spelling_of_a_whole_number_is_read(value: int, zeros: int) -> None:
    for written in (f"{value}.{'0' * (zeros + 1)}", f"{value}e{zeros}", f"{value * 10**zeros}e-{zeros}"):
        [item] = decode_body(DECODER, f'{{"items": [{{"x": {written}}}]}}'.encode()).items
        assert item.x in (value, value * 10**zeros)
