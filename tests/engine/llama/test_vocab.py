"""Real vocabularies tokenise a prompt in pieces: markers across pieces are text, and no byte is added or lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cortex.engine.chat.templates.literal_text import cut_at_breaks, special_spellings
from cortex.engine.llama.library import LogTap
from cortex.engine.llama.model import Model, Vocab
from tests.templates import vocabulary_gguf

NAMES = ["llama-spm", "phi-3", "llama-bpe", "qwen2", "command-r", "gemma-4", "deepseek-llm", "falcon"]
CONTENT = [
    "{}<b>bold</b> {}{}\n\n{} end",
    "  {} {}  ",
    "{}",
    "a{}b\n{}\n\n",
    "é{}😀{}",
]


@pytest.fixture(scope="module", params=NAMES)
def vocab(request: pytest.FixtureRequest) -> Iterator[Vocab]:
    model = Model.load_vocabulary(str(vocabulary_gguf(request.param)), LogTap())
    yield model.vocab
    model.close()


def spellings(vocab: Vocab) -> list[str]:
    control = [vocab.piece(token).decode() for token in range(vocab.size) if vocab.is_control(token)]
    return [text for text in control if len(text) > 1]


@pytest.mark.parametrize("layout", CONTENT)
def test_content_that_spells_control_tokens_is_text_byte_by_byte(vocab: Vocab, layout: str) -> None:
    special = special_spellings(vocab, [])
    for spelled in spellings(vocab)[:5]:
        content = layout.format(*[spelled] * layout.count("{}"))
        pieces = cut_at_breaks("Say: " + special.broken(content) + " Right")
        tokens = vocab.prompt_tokens(*pieces)
        tokens = tokens[1:] if vocab.add_bos else tokens
        assert not any(vocab.is_control(token) for token in tokens)
        text = b"".join(map(vocab.piece, tokens)).decode()
        assert text.removeprefix(" ") == f"Say: {content} Right"
        assert any(vocab.is_control(token) for token in vocab.tokenize(content))


def test_a_prompt_in_one_piece_is_tokenised_as_before(vocab: Vocab) -> None:
    text = "Hello world.\n\nHow are you?"
    tokens = vocab.tokenize(text)
    expected = [vocab.bos, *tokens] if vocab.add_bos and tokens[:1] != [vocab.bos] else tokens
    assert vocab.prompt_tokens(text) == expected
