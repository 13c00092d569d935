"""What the expressions of `LarkBuilder` accept, judged by llguidance."""

from __future__ import annotations

import pytest
from llguidance import LLMatcher

from cortex.engine.chat.splitting.markers import MarkerTable
from cortex.engine.grammar.lark import LarkBuilder
from tests.engine.chat.byte_vocabulary import ByteVocabulary

# ---- raw text up to a closing tag


def lets_pass(marker: str, text: str) -> bool:
    """Whether `text` is anything, then `marker`, then the tag `<.`."""
    vocabulary = ByteVocabulary()
    lark = LarkBuilder(MarkerTable(vocabulary))
    grammar = LLMatcher.grammar_from_lark(lark.build(f'{lark.raw_until(marker, ["<."])} "<."'))
    matcher = LLMatcher(vocabulary.for_llguidance(), grammar)
    assert not matcher.is_error(), matcher.get_error()
    tokens = vocabulary.tokenize(text)
    return matcher.try_consume_tokens(tokens) == len(tokens) and bool(matcher.is_accepting())


@pytest.mark.parametrize("marker", ["</p>", "</｜D｜p>", "]<]m[>[</k>", "<|close|>p<|sep|>"])
def test_raw_text_ends_at_its_closing_tag(marker: str) -> None:
    assert lets_pass(marker, f"{marker}<.")
    assert lets_pass(marker, f'if a < b:\n\tprint("</")\n{marker}<.')
    assert not lets_pass(marker, "no end<.")
    assert not lets_pass(marker, marker)


@pytest.mark.parametrize("marker", ["</p>", "</｜D｜p>"])
def test_a_closing_tag_with_text_behind_it_is_text_and_blanks_are_none(marker: str) -> None:
    assert lets_pass(marker, f"a{marker}x{marker[:-1]}y{marker}\n    <.")
    assert lets_pass(marker, f"{marker}   <.")
