"""GGUF models of about a megabyte with which llama.cpp decodes a given script, token by token.

    build_scripted(path, {"<|go|>": ["Hello", ", ", b"\\xf0\\x9f", b"\\x98\\x80"]}, template="…<|go|>")

A prompt that ends in `<|go|>` is continued with exactly these tokens, then the end token. It is one block of the llama
architecture with a zero feed-forward part:

- **Transitions.** A token's embedding carries the code (a random ±1 vector) of its successor, and the output matrix
  holds every token's code, so the successor's logit is far above all others.
- **Marks.** A token that a script uses twice (a marker before each of two calls, a repeated byte) needs a second
  successor. For each place where the transition would be wrong there is an attention head that attends to the token
  at exactly the distance of the script's mark; if a mark is there, the head adds the code of the right successor with
  a larger weight than the transition has. Rotary frequencies make the distance exact: the score is positive at one
  distance and negative at all others.

The logits are so far apart that sampling at any usual temperature follows the script too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, TokenType
from numpy.typing import NDArray

from tests.gguf_out import write_out

__all__ = ["LOOP", "Script", "Vocabulary", "add_tokenizer", "build_scripted", "make_vocabulary"]

Matrix = NDArray[np.float32]

HEAD = 64  # width of keys and values; also the most marks one model can have
CODE = 112  # width of a token's code: at 600 tokens the best two codes still agree in less than half of it
FREQ_BASE = 1e8
FREQUENCIES = 12  # pairs 0..11 tell distances apart: at no distance below 16384 does their sum come closer than 0.68
STILL = slice(26, 32)  # these pairs hardly rotate within 16384 positions: they hold the constant part of a score
GAP = 0.68
SHARPNESS = 640.0  # score of a mark at the right distance: SHARPNESS · GAP / 2 / sqrt(HEAD) ≈ 27, elsewhere ≤ -27
VOTE = 4.0  # a head's vote against the transition's 1
MAX_HEADS = 256


class Loop(Enum):
    """`LOOP`, the last item of a script: repeat it from its first token without end."""

    LOOP = "loop"


LOOP = Loop.LOOP
Script = Sequence[str | bytes | Loop]


@dataclass
class Vocabulary:
    """Tokens in the order of their ids."""

    texts: list[str] = field(default_factory=list)
    types: list[TokenType] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)

    def add(self, text: str, type_: TokenType) -> int:
        if text not in self.ids:
            if not text:
                raise ValueError("an empty piece can't be a token")
            self.ids[text] = len(self.texts)
            self.texts.append(text)
            self.types.append(type_)
        return self.ids[text]

    def encode(self, item: str | bytes) -> list[int]:
        """A string is one token; bytes are byte tokens."""
        if isinstance(item, bytes):
            return [self.ids[f"<0x{byte:02X}>"] for byte in item]
        return [self.add(item, TokenType.USER_DEFINED)]


def build_scripted(
    path: Path,
    scripts: Mapping[str, Script],
    *,
    template: str | None = None,
    named_templates: Mapping[str, str] | None = None,
    control: Sequence[str] = (),
    user_defined: Sequence[str] = (),
    bos: str = "<s>",
    eos: str = "</s>",
    eot: str | None = None,
    add_bos: bool = True,
    context: int = 8192,
    blocks: int = 1,
    feed_forward: int = 32,
    name: str = "scripted",
) -> Path:
    """Write the model to `path` and return it.

    `scripts` maps a mark (a control token that a prompt ends with) to what follows it. Script items: a string is one
    token, CONTROL if it is a mark or listed in `control`, else USER_DEFINED; bytes are byte tokens; `LOOP` may be the
    last. `user_defined` adds tokens that no script emits. An item equal to `eos` or `eot` ends generation early.
    A prompt without a mark is continued with the successor of its last token, if it has one, else with the end token.

    `blocks` and `feed_forward` only make the file larger: 768 bytes per block and unit of `feed_forward`.

    Raises ValueError for an impossible script: more than 256 places where a token is used with another successor.
    """
    vocab = make_vocabulary(bos, eos, [*scripts, *control, *([eot] if eot else [])], user_defined)
    marks = [vocab.ids[mark] for mark in scripts]
    encoded = [_encode(vocab, mark, script, vocab.ids[eot or eos]) for mark, script in scripts.items()]
    successor, votes = _plan(encoded, len(vocab.texts), vocab.ids[eos])
    writer = GGUFWriter(path, "llama")
    writer.add_name(name)
    add_tokenizer(writer, vocab, bos=bos, eos=eos, eot=eot, add_bos=add_bos)
    _add_templates(writer, template, named_templates)
    _add_weights(writer, marks, successor, votes, context=context, blocks=blocks, feed_forward=feed_forward)
    return write_out(writer, path)


def make_vocabulary(bos: str, eos: str, control: Sequence[str], user_defined: Sequence[str]) -> Vocabulary:
    """Special tokens, the 256 bytes, a space, then `control` and `user_defined`."""
    vocab = Vocabulary()
    vocab.add("<unk>", TokenType.UNKNOWN)
    for text in (bos, eos):
        vocab.add(text, TokenType.CONTROL)
    for byte in range(256):
        vocab.add(f"<0x{byte:02X}>", TokenType.BYTE)
    # Every SPM vocabulary has it. Without it a space that a grammar forces is tokenised into bytes that are no space.
    vocab.add("\u2581", TokenType.NORMAL)
    for text in control:
        vocab.add(text, TokenType.CONTROL)
    for text in user_defined:
        vocab.add(text, TokenType.USER_DEFINED)
    return vocab


def _encode(vocab: Vocabulary, mark: str, script: Script, end: int) -> list[int]:
    """The mark, the script's tokens, and what comes after the last: the end token, or the first again."""
    tokens = [vocab.ids[mark]]
    for place, item in enumerate(script):
        if isinstance(item, Loop):
            if place != len(script) - 1 or len(tokens) < 2:
                raise ValueError(f"{mark}: LOOP must come last, after at least one token")
            return [*tokens, tokens[1]]
        tokens += vocab.encode(item)
    return [*tokens, end]


def _plan(encoded: list[list[int]], size: int, eos: int) -> tuple[list[int], dict[int, dict[int, int]]]:
    """Each token's successor, and {distance: {mark's number: token}} where a script needs another one."""
    successor: dict[int, int] = {}
    votes: dict[int, dict[int, int]] = {}
    for number, tokens in enumerate(encoded):
        for distance, (token, following) in enumerate(pairwise(tokens)):
            if successor.setdefault(token, following) != following:
                votes.setdefault(distance, {})[number] = following
    if len(votes) > MAX_HEADS:
        raise ValueError(
            f"at {len(votes)} places a token needs another successor, {MAX_HEADS} are possible: "
            "cut the text into longer pieces, so that fewer of them repeat"
        )
    return [successor.get(token, eos) for token in range(size)], votes


def add_tokenizer(writer: GGUFWriter, vocab: Vocabulary, *, bos: str, eos: str, eot: str | None, add_bos: bool) -> None:
    """Write `vocab` as a SentencePiece tokenizer."""
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(vocab.texts)
    writer.add_token_scores([0.0] * len(vocab.texts))
    writer.add_token_types(vocab.types)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(vocab.ids[bos])
    writer.add_eos_token_id(vocab.ids[eos])
    if eot:
        writer.add_eot_token_id(vocab.ids[eot])
    writer.add_add_bos_token(add_bos)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)


def _add_templates(writer: GGUFWriter, template: str | None, named: Mapping[str, str] | None) -> None:
    if named:
        variants = [{"name": name, "template": text} for name, text in named.items()]
        writer.add_chat_template([*variants, *([{"name": "default", "template": template}] if template else [])])
    elif template is not None:
        writer.add_chat_template(template)


def _add_weights(
    writer: GGUFWriter,
    marks: list[int],
    successor: list[int],
    votes: dict[int, dict[int, int]],
    *,
    context: int,
    blocks: int,
    feed_forward: int,
) -> None:
    """Channels of the residual stream: 0 always one, 1 "no mark", one per mark, then the code."""
    if len(marks) > HEAD:
        raise ValueError(f"{len(marks)} marks, at most {HEAD} are possible")
    first_code = 2 + len(marks)
    width = -(-(first_code + CODE) // 64) * 64
    codes = np.random.default_rng(7).choice(np.array([-1, 1], np.float32), (len(successor), CODE))
    code_channels = slice(first_code, first_code + CODE)

    embedding = np.zeros((len(successor), width), np.float32)
    embedding[:, 0] = 1
    embedding[:, 1] = 1
    for number, mark in enumerate(marks):
        embedding[mark, 1] = 0
        embedding[mark, 2 + number] = 1
    embedding[:, code_channels] = codes[successor]
    output = np.zeros_like(embedding)
    output[:, code_channels] = codes

    heads = max(len(votes), 1)
    writer.add_vocab_size(len(successor))
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(blocks)
    writer.add_feed_forward_length(feed_forward)
    writer.add_head_count(heads)
    writer.add_head_count_kv(1)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_freq_base(FREQ_BASE)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_file_type(1)

    _add_matrix(writer, "token_embd", embedding)
    _add_matrix(writer, "output", output)
    writer.add_tensor("output_norm.weight", np.ones(width, np.float32))
    for block in range(blocks):
        attention = _attention(votes, codes, len(marks), width) if block == 0 else _no_attention(heads, width)
        for part, matrix in attention.items():
            _add_matrix(writer, f"blk.{block}.{part}", matrix)
        for part in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{block}.{part}.weight", np.ones(width, np.float32))
        for part, shape in (
            ("up", (feed_forward, width)),
            ("gate", (feed_forward, width)),
            ("down", (width, feed_forward)),
        ):
            _add_matrix(writer, f"blk.{block}.ffn_{part}", np.zeros(shape, np.float32))


def _no_attention(heads: int, width: int) -> dict[str, Matrix]:
    """Matrices as (outputs, inputs), the order in which GGUF's numpy view has them."""
    return {
        "attn_q": np.zeros((heads * HEAD, width), np.float32),
        "attn_k": np.zeros((HEAD, width), np.float32),
        "attn_v": np.zeros((HEAD, width), np.float32),
        "attn_output": np.zeros((width, heads * HEAD), np.float32),
    }


def _attention(votes: dict[int, dict[int, int]], codes: Matrix, marks: int, width: int) -> dict[str, Matrix]:
    """One head per distance. Only marks have keys and values, so every other token scores 0 and adds nothing."""
    matrices = _no_attention(max(len(votes), 1), width)
    matrices["attn_k"][0 : 2 * FREQUENCIES : 2, 2 : 2 + marks] = 1
    matrices["attn_k"][2 * STILL.start : 2 * STILL.stop : 2, 2 : 2 + marks] = 1
    matrices["attn_v"][:marks, 2 : 2 + marks] = np.eye(marks)
    for head, (distance, by_mark) in enumerate(votes.items()):
        matrices["attn_q"][head * HEAD : (head + 1) * HEAD, 0] = _query(distance)
        for number, token in by_mark.items():
            matrices["attn_output"][2 + marks : 2 + marks + CODE, head * HEAD + number] = VOTE * codes[token]
    return matrices


def _query(distance: int) -> Matrix:
    """A query whose score with a mark's key is positive at `distance` tokens back and negative at any other."""
    angles = distance * FREQ_BASE ** (-2 * np.arange(FREQUENCIES) / HEAD)
    query = np.zeros(HEAD, np.float32)
    query[0 : 2 * FREQUENCIES : 2] = np.cos(angles)
    query[1 : 2 * FREQUENCIES : 2] = -np.sin(angles)
    query[2 * STILL.start : 2 * STILL.stop : 2] = (GAP / 2 - FREQUENCIES) / (STILL.stop - STILL.start)
    return SHARPNESS * query


def _add_matrix(writer: GGUFWriter, name: str, matrix: Matrix) -> None:
    writer.add_tensor(f"{name}.weight", matrix.astype(np.float16))
