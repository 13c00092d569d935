"""Bytes of a terminal as key names."""

from __future__ import annotations

from cortex.top.keys import parse_keys


def test_letters_arrows_and_control_keys_have_names() -> None:
    assert parse_keys("q\x1b[A\x1b[B\r\x7f\x03") == ["q", "up", "down", "enter", "backspace", "ctrl-c"]


def test_a_lone_escape_is_a_key() -> None:
    assert parse_keys("\x1b") == ["escape"]


def test_unknown_sequences_are_dropped_whole() -> None:
    assert parse_keys("\x1b[15~x\x1b[1;5Cy") == ["x", "y"]
