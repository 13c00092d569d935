"""Grammars for the output: from a request's format to masks over the logits, by llguidance."""

from __future__ import annotations

import ctypes
import json
import re
from collections import OrderedDict
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as c
from llguidance import LLMatcher, LLTokenizer
from llguidance.gbnf_to_lark import GbnfToLarkError, gbnf_to_lark

from cortex.engine.chat.types import ConstraintSpec
from cortex.engine.grammar.json_schema import checked_schema, compile_error
from cortex.engine.llama.model import Vocab
from cortex.errors import BadRequest, InternalError
from cortex.wire.inference import Grammar, JsonObjectFormat, JsonSchemaFormat, OutputFormat

__all__ = ["ConstraintCompiler", "MaskedConstraint", "spec_for_format"]

_KEPT_GRAMMARS = 64
"""Compiled grammars kept per model: a client sends the same tools with each turn, and compiling 20 of them takes 7 to
40 ms (151,936 tokens: contrib/bench/masks.py)."""
_NO_TAG = r"""[^<"\\\x00-\x1F\x7F]+"""
"""Tokens that can't begin a tag: a slice whose masks llguidance computes in advance, for raw values between tags.
Without it such a mask takes a walk over the whole vocabulary, 2 ms (151,936 tokens)."""
_MARKER = re.compile(rb"<.+>|\[.+\]|\].+\[", re.DOTALL)


def spec_for_format(wanted: OutputFormat) -> ConstraintSpec | None:
    """The grammar of a request's `format`, None for plain text. Raises InvalidSchema or BadRequest."""
    match wanted:
        case JsonObjectFormat():
            return ConstraintSpec(_json({"type": "object"}, strict=False))
        case JsonSchemaFormat(schema=schema, strict=strict):
            return ConstraintSpec(_json(schema, strict=strict))
        case Grammar():
            return ConstraintSpec(_grammar(wanted))
    return None


def _json(schema: dict[str, Any], *, strict: bool) -> str:
    return "start: %json " + json.dumps(checked_schema(schema, strict=strict, where="schema")) + "\n"


def _grammar(wanted: Grammar) -> str:
    match wanted.syntax:
        case "gbnf":
            lark = _from_gbnf(wanted.text)
        case "lark":
            lark = wanted.text
        case "regex":
            lark = f"start: /{wanted.text.replace('/', chr(92) + '/')}/\n"
    if (reason := compile_error(lark)) is not None:
        raise BadRequest(f"the {wanted.syntax} grammar doesn't compile: {reason}", param="grammar")
    return lark


def _from_gbnf(text: str) -> str:
    try:
        return gbnf_to_lark(text)
    except GbnfToLarkError as error:
        raise BadRequest(f"the gbnf grammar doesn't parse: {error}", param="grammar") from error


class MaskedConstraint:
    """Implements `engine.chat.types.Constraint`. llguidance releases the GIL while it computes a mask."""

    def __init__(self, matcher: LLMatcher, vocabulary_size: int) -> None:
        self._matcher = matcher
        self._size = vocabulary_size
        self._mask = np.empty((vocabulary_size + 31) // 32 * 4, dtype=np.uint8)
        self._prepared = False

    def prepare(self) -> None:
        if self._prepared:
            return
        self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        self._check("computing a mask")
        self._prepared = True

    def apply(self, logits: object) -> None:
        assert isinstance(logits, np.ndarray)
        self.prepare()
        allowed = np.unpackbits(self._mask, count=self._size, bitorder="little").view(np.bool_)
        logits[: self._size][~allowed] = -np.inf
        logits[self._size :] = -np.inf

    def accept(self, token: int) -> None:
        self._prepared = False
        self._matcher.consume_token(token)
        self._check(f"taking token {token}")

    def is_complete(self) -> bool:
        return bool(self._matcher.is_stopped())

    def reset(self) -> None:
        self._prepared = False
        self._matcher.reset()

    def _check(self, doing: str) -> None:
        if self._matcher.is_error():
            raise InternalError(f"the grammar failed while {doing}: {self._matcher.get_error()}")


class ConstraintCompiler:
    """Compiles grammars for one model; the constructor reads the whole vocabulary (about 1 s at 150k tokens)."""

    def __init__(self, vocab: Vocab) -> None:
        self._tokenizer = _tokenizer(vocab)
        self._size = vocab.size
        self._kept: OrderedDict[str, LLMatcher] = OrderedDict()

    def compile(self, spec: ConstraintSpec) -> MaskedConstraint:
        """Raises BadRequest if the grammar doesn't compile."""
        matcher = self._kept.get(spec.lark)
        if matcher is None:
            matcher = self._compiled(spec.lark)
        self._kept[spec.lark] = matcher
        self._kept.move_to_end(spec.lark)
        while len(self._kept) > _KEPT_GRAMMARS:
            self._kept.popitem(last=False)
        return MaskedConstraint(matcher.deep_copy(), self._size)

    def _compiled(self, lark: str) -> LLMatcher:
        matcher = LLMatcher(self._tokenizer, LLMatcher.grammar_from_lark(lark), log_level=0)
        if matcher.is_error():
            raise BadRequest(f"the grammar doesn't compile: {matcher.get_error()}")
        return matcher


def _tokenizer(vocab: Vocab) -> LLTokenizer:
    """The vocabulary as llguidance reads it: special tokens get a prefix 0xff, which is in no text."""
    tokens = [(b"\xff" if _is_special(vocab, token) else b"") + vocab.piece(token) for token in range(vocab.size)]
    tokenizer: LLTokenizer = LLTokenizer.from_llamacpp(  # type: ignore[attr-defined]
        tokens=tokens,
        vocab_ptr=vocab.handle,
        tokenize_fptr=ctypes.cast(c._lib.llama_tokenize, ctypes.c_void_p).value,  # noqa: SLF001 - it calls back into C
        eos_token=sorted(vocab.ends) or None,
        slices=[_NO_TAG, *LLTokenizer.general_slices()],
    )
    return tokenizer


def _is_special(vocab: Vocab, token: int) -> bool:
    """Whether `token` is a control token or a user-defined one that looks like a marker (others are runs of blanks)."""
    attributes = int(c.llama_vocab_get_attr(vocab.handle, token))
    if attributes & c.LLAMA_TOKEN_ATTR_CONTROL:
        return True
    piece = vocab.piece(token)
    return bool(attributes & c.LLAMA_TOKEN_ATTR_USER_DEFINED) and _MARKER.fullmatch(piece) is not None
