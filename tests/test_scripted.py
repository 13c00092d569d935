"""llama.cpp decodes the scripted models to exactly their scripts."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.models import gemma, smollm2
from tests.scripted import LOOP, Script, build_scripted
from tests.templates import template, template_names, vocabulary_gguf

pytestmark = pytest.mark.model

Decode = Callable[..., bytes]


@pytest.fixture
def decode(tmp_path: Path) -> Iterator[Callable[[dict[str, Script]], Decode]]:
    """`decode(scripts)` builds a model and returns what continues a prompt greedily, to its end or `limit` tokens."""
    import llama_cpp as lib

    models: list[object] = []
    contexts: list[object] = []

    def build(scripts: dict[str, Script], **options: object) -> Decode:
        path = build_scripted(tmp_path / "scripted.gguf", scripts, **options)  # type: ignore[arg-type]
        model = lib.llama_model_load_from_file(str(path).encode(), lib.llama_model_default_params())
        assert model
        models.append(model)
        vocab = lib.llama_model_get_vocab(model)
        params = lib.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_threads, params.n_threads_batch = 4096, 4096, 1, 1

        def run(prompt: str, limit: int = 1000) -> bytes:
            context = lib.llama_init_from_model(model, params)
            contexts.append(context)
            sampler = lib.llama_sampler_init_greedy()
            text, piece = prompt.encode(), ctypes.create_string_buffer(64)
            batch = (lib.llama_token * 4096)()
            count = lib.llama_tokenize(vocab, text, len(text), batch, 4096, True, True)
            output = b""
            for _ in range(limit):
                assert lib.llama_decode(context, lib.llama_batch_get_one(batch, count)) == 0
                token = lib.llama_sampler_sample(sampler, context, -1)
                if lib.llama_vocab_is_eog(vocab, token):
                    break
                length = lib.llama_token_to_piece(vocab, token, piece, 64, 0, True)
                output += piece.raw[:length]
                batch[0], count = token, 1
            lib.llama_sampler_free(sampler)
            return output

        return run

    yield build
    for context in contexts:
        lib.llama_free(context)
    for model in models:
        lib.llama_model_free(model)


def test_a_script_is_decoded_byte_for_byte_to_its_end(decode: Callable[..., Decode]) -> None:
    run = decode({"<|go|>": ["Hello", ", ", b"\xf0\x9f\x98\x80", " wörld", "\n"]})
    assert run("anything<|go|>") == "Hello, 😀 wörld\n".encode()
    assert run("<|go|>") == "Hello, 😀 wörld\n".encode()


def test_a_token_may_have_several_successors_in_one_script(decode: Callable[..., Decode]) -> None:
    run = decode({"<|go|>": ["<c>", "1", "</c>", "<c>", "2", "</c>", "<c>", "1", "1"]}, control=["<c>", "</c>"])
    assert run("hi<|go|>") == b"<c>1</c><c>2</c><c>11"


@pytest.mark.parametrize("before", [0, 1, 7, 900, 3000])
def test_the_prompt_before_the_mark_makes_no_difference(decode: Callable[..., Decode], before: int) -> None:
    words = ["the", "cat", "and", "the", "dog", "and", "the", "fox", "saw", "the", "cat"]
    run = decode({"<|go|>": words * 9})
    assert run("x" * before + "<|go|>").decode() == "".join(words * 9)


def test_marks_choose_among_scripts_that_share_tokens(decode: Callable[..., Decode]) -> None:
    run = decode({"<|a|>": ["x", "y", "z"], "<|b|>": ["y", "x", "z", "z"], "<|c|>": []})
    assert [run(mark) for mark in ("<|a|>", "<|b|>", "<|c|>", "<|a|><|b|>")] == [b"xyz", b"yxzz", b"", b"yxzz"]


def test_a_loop_never_ends(decode: Callable[..., Decode]) -> None:
    run = decode({"<|go|>": ["tick ", "tock ", LOOP]})
    assert run("<|go|>", limit=400) == b"tick tock " * 200


def test_too_many_repetitions_are_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="longer pieces"):
        build_scripted(tmp_path / "x.gguf", {"<|go|>": [*"abcacb"] * 100})


def test_a_model_takes_less_than_two_megabytes(tmp_path: Path) -> None:
    """It is small enough to be built for each test."""
    path = build_scripted(tmp_path / "x.gguf", {"<|go|>": ["Hello", " ", "world"]}, template="{{ messages }}<|go|>")
    assert path.stat().st_size < 2_000_000


def test_real_models_and_templates_are_found() -> None:
    assert smollm2().read_bytes()[:4] == b"GGUF"
    assert gemma().stat().st_size > 200_000_000
    assert len(template_names()) >= 20
    assert "{%" in template(template_names()[0])
    assert vocabulary_gguf("qwen2").exists()
