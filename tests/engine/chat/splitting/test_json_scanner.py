"""The incremental JSON scanner against the real parser."""

from __future__ import annotations

import json
import re

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
def test_a_prefix_of_valid_json_passes(value: object, data: st.DataObject) -> None:
    text = json.dumps(value)
    cut = text[: data.draw(st.integers(1, len(text)))]
    scanner, passed, used = scan(cut)
    assert (passed, used) == (cut, len(cut))
    assert scanner.finish() == readable(cut)


@given(text=JSON_LIKE)
def test_whatever_was_passed_is_the_beginning_of_valid_json(text: str) -> None:
    _, passed, _ = scan(text)
    assert any(readable(passed + tail + closing(passed)) for tail in TAILS)


TAILS = [
    "", "null", "0", *("rue", "ue", "e", "alse", "lse", "se", "ull", "ll", "l"), ":null", '"":null',
    *(f"{escape}{end}" for escape in ("", "\\", "0000", "000", "00", "0") for end in ('"', '":null')),
]  # fmt: skip
"""What may be missing of a scalar, a key or a pair, before its containers are closed."""


def closing(text: str) -> str:
    """The closing brackets that `text` lacks; those in strings don't count."""
    outside = re.sub(r'"(?:[^"\\]|\\.)*(?:"|\\?$)', "", text)
    while (shorter := re.sub(r"\{[^{}\[\]]*\}|\[[^{}\[\]]*\]", "", outside)) != outside:
        outside = shorter
    return "".join({"{": "}", "[": "]"}[char] for char in reversed(outside) if char in "{[")


def readable(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


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


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[" + "9" * 100_000, '"' + "\\u0041" * 10_000])
def test_no_depth_and_no_number_is_too_much(text: str) -> None:
    scanner, passed, used = scan(text)
    assert (passed, used) == (text, len(text))
    assert not scanner.broken
