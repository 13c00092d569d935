"""The incremental JSON scanner against the real parser."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.engine.chat.splitting.json_scanner import JsonScanner

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
JSON_LIKE = st.text(st.sampled_from('{}[]",:\\ \n\t-+.0123eEtrufalsn/bx"'), max_size=40)


def scan(text: str, sizes: list[int] | None = None) -> tuple[JsonScanner, str, int]:
    """Feed `text` in pieces; the scanner, what it passed, and how much it used."""
    scanner, passed, used = JsonScanner(), "", 0
    for size in [*(sizes or []), *[len(text)] * (len(text) + 1)]:
        piece = text[used : used + size]
        shown, taken = scanner.feed(piece)
        passed, used = passed + shown, used + taken
        if taken < len(piece):
            break
    return scanner, passed, used


@given(value=VALUES, ascii_only=st.booleans(), indent=st.sampled_from([None, 2]), sizes=st.lists(st.integers(1, 5)))
def test_valid_json_passes_unchanged_however_it_is_cut(
    value: object, ascii_only: bool, indent: int | None, sizes: list[int]
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    scanner, passed, used = scan(text, sizes)
    assert used == len(text)
    assert scanner.finish()
    assert passed == text


@given(value=VALUES, data=st.data())
def test_a_prefix_of_valid_json_can_be_closed(value: object, data: st.DataObject) -> None:
    text = json.dumps(value)
    cut = text[: data.draw(st.integers(1, len(text)))]
    scanner, passed, used = scan(cut)
    assert used == len(cut)
    json.loads(passed if scanner.finish() else passed + scanner.close())


@given(text=JSON_LIKE)
def test_whatever_was_passed_can_be_closed_to_valid_json(text: str) -> None:
    scanner, passed, _ = scan(text)
    json.loads(passed if scanner.finish() else passed + scanner.close())


@given(text=JSON_LIKE, sizes=st.lists(st.integers(1, 4)))
def test_cuts_change_nothing_in_broken_text(text: str, sizes: list[int]) -> None:
    whole, passed, used = scan(text)
    pieces, passed_too, used_too = scan(text, sizes)
    assert (passed, used, whole.complete, whole.broken) == (passed_too, used_too, pieces.complete, pieces.broken)


@pytest.mark.parametrize("text", ["{]", "[1,]", '{"a" 1}', "{1: 2}", "01", "tru ", "nul}", '"\\x"', "-x", "1.e", "'a'"])
def test_what_is_no_json_breaks_the_value(text: str) -> None:
    scanner, _, used = scan(text)
    assert scanner.broken or (scanner.complete and used < len(text))


def test_raw_line_breaks_in_strings_pass_escaped() -> None:
    scanner, passed, _ = scan('{"a": "one\ntwo\tthree\x00"}')
    assert passed == '{"a": "one\\ntwo\\tthree\\u0000"}'
    assert scanner.complete


def test_what_follows_a_complete_value_is_not_used() -> None:
    scanner, passed, used = scan('{"a": 1}</tool_call>')
    assert (passed, used, scanner.complete) == ('{"a": 1}', 8, True)


@pytest.mark.parametrize(
    ("text", "tail"),
    [
        ("", "null"),
        ("{", "}"),
        ('{"a', '":null}'),
        ('{"a"', ":null}"),
        ('{"a":', "null}"),
        ('{"a": 1,', '"":null}'),
        ('{"a": "x\\', '\\"}'),
        ('["\\u12', '00"]'),
        ("[1, -", "0]"),
        ("[1.", "0]"),
        ("[1e", "0]"),
        ("[tr", "ue]"),
        ('[{"a": [', "]}]"),
    ],
)
def test_closing_adds_the_least_that_makes_it_valid(text: str, tail: str) -> None:
    scanner, passed, _ = scan(text)
    assert scanner.close() == tail
    json.loads(passed + tail)
