"""Whole characters and stop strings, wherever the text is cut into pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cortex.engine.request.text import StopMatcher, Utf8Assembler


@given(st.text(), st.lists(st.integers(1, 4), min_size=1))
def test_text_survives_any_cutting_of_its_bytes(text: str, cuts: list[int]) -> None:
    assembler = Utf8Assembler()
    data, out, at, turn = text.encode(), "", 0, 0
    while at < len(data):
        size = cuts[turn % len(cuts)]
        out += assembler.feed(data[at : at + size])
        at, turn = at + size, turn + 1
    assert out == text
    assert not assembler.pending


def test_bytes_that_are_no_character_are_dropped() -> None:
    assembler = Utf8Assembler()
    assert assembler.feed(b"a\xff\xfeb") == "ab"
    assert assembler.feed(b"\xf0\x9f") == ""
    assert assembler.pending


@given(
    st.text(alphabet="abc", max_size=30),
    st.lists(st.text(alphabet="abc", min_size=1, max_size=4), max_size=3),
    st.integers(1, 5),
)
def test_no_part_of_a_stop_string_leaks_and_nothing_else_is_lost(text: str, stops: list[str], size: int) -> None:
    matcher = StopMatcher(stops)
    out = ""
    for at in range(0, len(text), size):
        out += matcher.feed(text[at : at + size])
    out += matcher.finish()
    found = [text.find(stop) for stop in stops if stop in text]
    if not found:
        assert out == text
        assert matcher.hit is None
    else:
        assert matcher.hit in stops
        assert text.startswith(out)
        assert text[len(out) :].startswith(matcher.hit)
        assert not any(stop in out for stop in stops)


def test_which_stop_string_was_hit_is_told() -> None:
    matcher = StopMatcher(["END", "STOP"])
    assert matcher.feed("go on ST") == "go on "
    assert matcher.feed("OP and more") == ""
    assert matcher.hit == "STOP"
    assert matcher.finish() == ""
