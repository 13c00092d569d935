"""Measure what a grammar costs per token: computing the mask, applying it to the logits, accepting the token.

    python contrib/bench/masks.py MODEL.gguf

A vocabulary without weights is enough (llama.cpp's `ggml-vocab-qwen2.gguf` has 151,936 tokens). Each grammar
processes a text that it accepts 20 times. Times are CPU time in microseconds per token, unaffected by other processes.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from llama_cpp import llama_cpp as c

from cortex.engine.chat.formats.families import family_by_name
from cortex.engine.chat.splitting.markers import MarkerTable
from cortex.engine.chat.tool_grammar import tool_constraint
from cortex.engine.chat.types import ConstraintSpec
from cortex.engine.grammar.compiler import ConstraintCompiler, spec_for_format
from cortex.engine.llama.model import Vocab
from cortex.wire.inference import JsonObjectFormat, JsonSchemaFormat, Tool, ToolChoice

ROUNDS = 20
WORDS = "A man walked along the river, thinking of nothing but the rain that fell on his hat. " * 4
SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "kind": {"enum": ["novel", "poem", "letter"]},
        "pages": {"type": "array", "items": {"type": "integer"}},
        "code": {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$"},
    },
    "required": ["title", "kind", "pages", "code"],
    "additionalProperties": False,
}
VALUE = {"title": WORDS, "kind": "poem", "pages": [1, 22, 333, 4444], "code": "ABC-1234"}


def cases(vocab: Vocab) -> dict[str, tuple[ConstraintSpec, str]]:
    """Grammars by name, each with a text that it accepts."""
    tools = [Tool(f"tool_{number}", parameters=SCHEMA) for number in range(20)]
    written = json.dumps(VALUE)
    calls = {
        "hermes": f'<tool_call>\n{{"name": "tool_7", "arguments": {written}}}\n</tool_call>',
        "qwen3_coder": "<tool_call>\n<function=tool_7>\n"
        + "".join(
            f"<parameter={key}>\n{value if isinstance(value, str) else json.dumps(value)}\n</parameter>\n"
            for key, value in VALUE.items()
        )
        + "</function>\n</tool_call>",
    }
    found = {"json_object": (JsonObjectFormat(), written), "json_schema": (JsonSchemaFormat(SCHEMA), written)}
    result = {name: (spec, text) for name, (form, text) in found.items() if (spec := spec_for_format(form))}
    for name, text in calls.items():
        form = family_by_name(name)
        assert form is not None
        markers = MarkerTable(vocab, None, form)
        spec = tool_constraint(
            markers, form, tools, ToolChoice("required"), parallel=None, reasoning=None, starts_in_reasoning=False
        )
        assert spec is not None
        result[f"20 tools, {name}"] = (spec, text)
    return result


def measure(compiler: ConstraintCompiler, vocab: Vocab, spec: ConstraintSpec, text: str) -> np.ndarray:
    """CPU seconds for each token of `text`, which the grammar must accept."""
    constraint = compiler.compile(spec)
    logits = np.zeros(vocab.size, dtype=np.float32)
    seconds = []
    for _ in range(ROUNDS):
        constraint.reset()
        for token in vocab.tokenize(text):
            logits[:] = 0
            began = time.thread_time()
            constraint.apply(logits)
            constraint.accept(token)
            seconds.append(time.thread_time() - began)
            assert logits[token] == 0, f"{vocab.piece(token)!r} is not allowed"
    return np.array(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="a GGUF file; the vocabulary is enough")
    arguments = parser.parse_args()
    c.llama_backend_init()
    params = c.llama_model_default_params()
    params.vocab_only = True
    model = c.llama_model_load_from_file(str(arguments.model).encode(), params)
    vocab = Vocab(c.llama_model_get_vocab(model))
    began = time.perf_counter()
    compiler = ConstraintCompiler(vocab)
    print(f"{vocab.size} tokens, read in {time.perf_counter() - began:.2f} s")
    for name, (spec, text) in cases(vocab).items():
        began = time.perf_counter()
        compiler.compile(spec)
        compiled = (time.perf_counter() - began) * 1e3
        p50, p99 = np.percentile(measure(compiler, vocab, spec, text) * 1e6, [50, 99])
        print(f"{name:24} compiled in {compiled:6.1f} ms   per token p50 {p50:6.0f}  p99 {p99:6.0f} µs")


if __name__ == "__main__":
    main()
