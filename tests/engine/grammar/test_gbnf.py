"""llama.cpp's grammars: what they accept, judged by llguidance, and what is refused."""

from __future__ import annotations

from typing import Literal

import pytest
from llguidance import LLMatcher

from cortex.engine.chat.vocabulary import single_token
from cortex.engine.grammar.compiler import spec_for_format
from cortex.engine.grammar.gbnf import lark_from_gbnf
from cortex.errors import BadRequest
from cortex.wire.inference import Grammar
from tests.engine.chat.byte_vocabulary import ByteVocabulary

VOCABULARY = ByteVocabulary(["<|token|>", "<think>"])  # ids 256 and 257
JSON = r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9]{1,15})? ws  # a comment
ws     ::= | " " | "\n" [ \t]{0,20}
"""


def accepts(grammar: str, text: str) -> bool:
    lark = lark_from_gbnf(grammar, lambda spelled: single_token(VOCABULARY, spelled))
    matcher = LLMatcher(VOCABULARY.for_llguidance(), LLMatcher.grammar_from_lark(lark))
    assert not matcher.is_error(), matcher.get_error()
    tokens = VOCABULARY.tokenize(text)
    return matcher.try_consume_tokens(tokens) == len(tokens) and bool(matcher.is_accepting())


@pytest.mark.parametrize(
    ("grammar", "good", "bad"),
    [
        ('root ::= start\nstart ::= "a"', "a", "b"),
        ('root ::= ("ab"*)*', "abab", "a"),
        ('root ::= (x?)+\nx ::= "a"*', "aaa", "b"),
        ('root ::= "\\u00e9\\x41\\U0001F600"', "éA😀", "e"),
        ('root ::= <|token|> "x"', "<|token|>x", "x"),
        ('root ::= <[257]> !<[256]>+', "<think>abc", "<think><|token|>"),
        ('root ::= !<think>* <think>', "abc<think>", "abc"),
        ('root ::= (\n"b" | # here\n "c")+ [^\\]x-z]{2}', "bcQW", "bxx"),
        ('root ::= [a-z]+ "b" .', "aab\n", "aa"),
        ("root ::= [-a]{2,}", "-a-", "-"),
        ('root ::= fooBar-baz\nfooBar-baz ::= "x" | fooBar-baz2\nfooBar-baz2 ::= ""', "", "y"),
        ('root ::= item | item "," root\r\nitem ::= [0-9]', "1,2", "1,"),
        (JSON, '{"a": [1.5e3, {"b": "\\u00e9"}],\n  "c": null}', "{a}"),
    ],
)  # fmt: skip
def test_a_grammar_accepts_what_llama_cpp_does(grammar: str, good: str, bad: str) -> None:
    assert accepts(grammar, good)
    assert not accepts(grammar, bad)


def test_a_literal_is_text_where_a_token_is_spelled_like_it() -> None:
    assert not accepts('root ::= "<think>"', "<think>")


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        ('root ::= "a" nope', "root refers to nope, which is not defined"),
        ('a ::= "x"', "no rule called root"),
        ("", "no rules"),
        (" \n# only a comment\n", "no rules"),
        ('root ::= root "a" | "b"', "root is left-recursive"),
        ('root ::= a root\na ::= "x"?', "root is left-recursive"),
        ('root ::= a\na ::= b "x" | "y"\nb ::= a', "a is left-recursive"),
        ("root ::= (", r"expected \)"),
        ('root ::= "a', "unexpected end"),
        ("root ::= [z-a]", "a range from z to a"),
        ('root ::= "a"{3,1}', "a repetition of"),
        ('root ::= "a"{1,100000}', "a repetition of"),
        (r'root ::= "\q"', "the escape"),
        ('root = "a"', "expected ::="),
        ("root ::= <nowhere>", "<nowhere> is not one token of this model"),
        ('root ::= "a" )', "unexpected text"),
        ("root ::= " + "(" * 100_000, "nested too deeply"),
    ],
)
def test_a_broken_grammar_is_refused_with_its_fault(grammar: str, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        spec_for_format(Grammar("gbnf", grammar), VOCABULARY)


@pytest.mark.parametrize(("syntax", "text"), [("lark", ""), ("lark", 'a: "x"'), ("lark", "start: b"), ("regex", "(")])
def test_a_broken_grammar_in_another_syntax_is_refused_too(syntax: Literal["lark", "regex"], text: str) -> None:
    with pytest.raises(BadRequest, match=f"the {syntax} grammar doesn't compile"):
        spec_for_format(Grammar(syntax, text))
