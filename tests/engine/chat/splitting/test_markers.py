"""Special tokens as characters, and back."""

from __future__ import annotations

import pytest

from cortex.engine.chat.formats.gemma import GEMMA4
from cortex.engine.chat.formats.json_families import HERMES
from cortex.engine.chat.splitting.markers import MarkerTable, partial_marker_length, special_tokens_in
from tests.engine.chat.fake_vocabulary import FakeVocabulary

VOCABULARY = FakeVocabulary(control=["<tool_call>"], defined=["</tool_call>"])
TABLE = MarkerTable(VOCABULARY, None, HERMES)
TEXT = 'a<tool_call>{"b": 1}</tool_call><other>'


def test_encoded_text_has_one_character_per_special_token_and_decodes_to_itself() -> None:
    encoded = TABLE.encode(TEXT)
    assert len(encoded) == len(TEXT) - len("<tool_call>") - len("</tool_call>") + 2
    assert TABLE.decode(encoded) == TEXT
    assert TABLE.decode(encoded, control=False) == TEXT.replace("<tool_call>", "")


def test_pieces_joined_are_the_text() -> None:
    pieces = TABLE.pieces(TEXT)
    assert pieces == ["a", "<tool_call>", '{"b": 1}', "</tool_call>", "<other>"]
    assert [TABLE.is_token(piece) for piece in pieces] == [False, True, False, True, False]
    assert TABLE.token_of("<tool_call>") == VOCABULARY.tokenize("<tool_call>")[0]
    assert TABLE.token_of("<other>") is None


def test_a_special_token_inside_a_json_string_is_escaped() -> None:
    table = MarkerTable(FakeVocabulary(defined=['<|"|>']), None, GEMMA4)
    assert table.decode_json(table.encode('a<|"|>b')) == 'a<|\\"|>b'
    assert table.decode_json("plain") == "plain"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("abc", 0),
        ("abc<", 1),
        ("abc<thi", 4),
        ("abc<think>", 0),
        ("<thinkx", 0),
        ("<<", 1),
    ],
)
def test_the_beginning_of_a_marker_at_the_end_is_measured(text: str, expected: int) -> None:
    assert partial_marker_length(text, ["<think>", "<tool>"]) == expected


def test_special_tokens_are_found_inside_longer_markers() -> None:
    assert special_tokens_in("<|channel>thought", "[TOOL_CALLS]f[ARGS]", "◁think▷", "plain") == [
        "<|channel>",
        "[TOOL_CALLS]",
        "[ARGS]",
        "◁think▷",
    ]
