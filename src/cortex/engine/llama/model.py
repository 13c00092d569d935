"""A GGUF model in memory and its vocabulary, over llama.cpp's C interface."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass

import llama_cpp
import msgspec
import numpy as np
from llama_cpp import llama_cpp as c

from cortex.engine.llama.library import LogTap, add_rpc_servers, device_list, load_error
from cortex.wire.worker import LoadSpec

__all__ = ["FimTokens", "Model", "Vocab"]

# llama.h, llama_split_mode and, by mmap and mlock, llama_load_mode
_SPLIT_MODES = {"none": 0, "layer": 1, "row": 2, "tensor": 3}
_LOAD_MODES = {(False, False): 0, (True, False): 1, (False, True): 2, (True, True): 3}
_PIECE_BYTES = 64
"""First size of a token's buffer; longer pieces are read again."""


@dataclass(frozen=True, slots=True)
class FimTokens:
    """Token ids of the vocabulary's fill-in-the-middle markers."""

    prefix: int
    suffix: int
    middle: int


class Vocab:
    """Implements `engine.chat.vocabulary.Vocabulary` over llama_vocab. May be used from any thread."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.size = int(c.llama_vocab_n_tokens(handle))
        self.bos = _known(c.llama_vocab_bos(handle))
        self.eos = _known(c.llama_vocab_eos(handle))
        self.add_bos = bool(c.llama_vocab_get_add_bos(handle)) and self.bos is not None
        self.ends = frozenset(token for token in range(self.size) if c.llama_vocab_is_eog(handle, token))
        self._pieces: list[bytes | None] = [None] * self.size
        self._texts: list[str | None] = [None] * self.size
        self._puts_blank = b"".join(map(self.piece, self.tokenize("a"))).startswith(b" ")

    def tokenize(self, text: str, *, special: bool = True, add_special: bool = False) -> list[int]:
        """`special`: markers in `text` become their single tokens. `add_special`: BOS and EOS as the GGUF asks."""
        data = text.encode("utf-8", "surrogatepass")
        tokens = np.empty(len(data) // 2 + 16, dtype=np.int32)
        count = self._tokenize(data, tokens, special, add_special)
        if count < 0:
            tokens = np.empty(-count, dtype=np.int32)
            count = self._tokenize(data, tokens, special, add_special)
        result: list[int] = tokens[:count].tolist()
        return result

    def _tokenize(self, data: bytes, tokens: np.ndarray, special: bool, add_special: bool) -> int:
        pointer = tokens.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        return int(c.llama_tokenize(self.handle, data, len(data), pointer, len(tokens), add_special, special))

    def prompt_tokens(self, *pieces: str) -> list[int]:
        """The joined text of `pieces`, with its markers as tokens, and BOS first if the model wants it and the text
        doesn't begin with it."""
        tokens = self.tokenize_pieces(*pieces)
        if self.add_bos and self.bos is not None and tokens[:1] != [self.bos]:
            tokens.insert(0, self.bos)
        return tokens

    def tokenize_pieces(self, *pieces: str) -> list[int]:
        """The joined text of `pieces`, with its markers as tokens; one that begins in a piece and ends in the next is
        text."""
        return [token for number, piece in enumerate(pieces) for token in self._piece_tokens(piece, first=not number)]

    def _piece_tokens(self, text: str, *, first: bool) -> list[int]:
        """`text` in tokens. SentencePiece vocabularies put a blank in front of every text; one that goes on behind
        another has none, so it is tokenised behind a line break, whose tokens are dropped."""
        if first or not self._puts_blank:
            return self.tokenize(text)
        before, tokens = self.tokenize("\n"), self.tokenize("\n" + text)
        return tokens[len(before) :] if tokens[: len(before)] == before else self.tokenize(text)

    def piece(self, token: int) -> bytes:
        """The token's bytes, control tokens as their marker text; kept after the first call."""
        piece = self._pieces[token]
        if piece is None:
            piece = self._pieces[token] = self._render(token)
        return piece

    def text(self, token: int) -> str | None:
        """The token's text when it is whole characters, None when it holds a part of one."""
        text = self._texts[token]
        if text is None:
            try:
                text = self._texts[token] = self.piece(token).decode()
            except UnicodeDecodeError:
                return None
        return text

    def _render(self, token: int) -> bytes:
        size = _PIECE_BYTES
        while True:
            buffer = ctypes.create_string_buffer(size)
            count = int(c.llama_token_to_piece(self.handle, token, buffer, size, 0, True))
            if count >= 0:
                return buffer.raw[:count]
            size = -count

    def is_control(self, token: int) -> bool:
        return bool(c.llama_vocab_is_control(self.handle, token))

    def is_end(self, token: int) -> bool:
        return token in self.ends

    def add_ends(self, tokens: frozenset[int]) -> None:
        """Let `tokens` end generation too; before anything else uses `ends`."""
        self.ends |= tokens

    @property
    def separator(self) -> int | None:
        return _known(c.llama_vocab_sep(self.handle))

    @property
    def fim(self) -> FimTokens | None:
        """None when the vocabulary lacks one of the three markers."""
        tokens = [_known(f(self.handle)) for f in (c.llama_vocab_fim_pre, c.llama_vocab_fim_suf, c.llama_vocab_fim_mid)]
        known = [token for token in tokens if token is not None]
        return FimTokens(*known) if len(known) == len(tokens) else None


class Model:
    """Weights in memory. `close()` frees them, after every context made from them."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.vocab = Vocab(c.llama_model_get_vocab(handle))
        self.metadata = _metadata(handle)
        self.context_train = int(c.llama_model_n_ctx_train(handle))
        self.embedding_width = int(c.llama_model_n_embd_out(handle))
        self.recurrent = bool(c.llama_model_is_recurrent(handle))
        self.hybrid = bool(c.llama_model_is_hybrid(handle))
        self.has_decoder = bool(c.llama_model_has_decoder(handle))

    @classmethod
    def load(cls, spec: LoadSpec, tap: LogTap, on_progress: Callable[[float], None]) -> Model:
        """Read the file of `spec`; `on_progress` gets fractions from 0 to 1, in this thread.

        Raises ModelLoadFailed with llama.cpp's own reason, or NoRoom.
        """
        params = c.llama_model_default_params()
        keep = _model_params(params, spec, on_progress)
        with tap.errors() as errors:
            handle = c.llama_model_load_from_file(spec.path.encode(), params)
        del keep  # C had pointers into it until here
        if not handle:
            raise load_error(f"llama.cpp can't load {spec.path}", errors)
        return cls(handle)

    @classmethod
    def plan(cls, spec: LoadSpec, tap: LogTap) -> Model:
        """The model of `spec` with its tensors laid out but nothing allocated, for a context to be planned with.

        Without mmap and mlock, as llama.cpp asserts. Raises as `load` does.
        """
        params = c.llama_model_default_params()
        keep = _model_params(params, msgspec.structs.replace(spec, mmap=False, mlock=False), lambda _: None)
        params.no_alloc = True
        with tap.errors() as errors:
            handle = c.llama_model_load_from_file(spec.path.encode(), params)
        del keep
        if not handle:
            raise load_error(f"llama.cpp can't plan {spec.path}", errors)
        return cls(handle)

    @classmethod
    def load_vocabulary(cls, path: str, tap: LogTap) -> Model:
        """Tokenizer and metadata of `path` without its weights; no device is used. Raises as `load` does."""
        params = c.llama_model_default_params()
        params.vocab_only = True
        params.n_gpu_layers = 0
        with tap.errors() as errors:
            handle = c.llama_model_load_from_file(path.encode(), params)
        if not handle:
            raise load_error(f"llama.cpp can't read {path}", errors)
        return cls(handle)

    @property
    def attention_heads(self) -> int:
        """Of all layers together. llama.cpp ends the process if only a vocabulary was loaded."""
        return int(c.llama_model_n_layer(self.handle)) * int(c.llama_model_n_head(self.handle))

    @property
    def template(self) -> str | None:
        template = c.llama_model_chat_template(self.handle, None)
        return template.decode() if template else None

    @property
    def named_templates(self) -> dict[str, str]:
        """Chat templates other than the default one (`tokenizer.chat_template.tool_use` …), by name."""
        prefix = "tokenizer.chat_template."
        return {key.removeprefix(prefix): text for key, text in self.metadata.items() if key.startswith(prefix)}

    def close(self) -> None:
        if self.handle:
            c.llama_model_free(self.handle)
            self.handle = 0


def _model_params(params: c.llama_model_params, spec: LoadSpec, on_progress: Callable[[float], None]) -> list[object]:
    """Fill `params`; returns the objects that must live while C uses them."""

    def progress(fraction: float, _user: object) -> bool:
        on_progress(fraction)
        return True

    callback = c.llama_progress_callback(progress)
    params.progress_callback = callback
    params.n_gpu_layers = spec.gpu_layers
    params.split_mode = _SPLIT_MODES[spec.split_mode]
    params.load_mode = _LOAD_MODES[spec.mmap, spec.mlock]
    keep: list[object] = [callback]
    names = [*spec.devices, *(name for name in _rpc_names(spec) if name not in spec.devices)]
    if names:  # llama.cpp's list never has the CPU: the CPU alone is an empty list, which means no GPU
        devices = device_list([name for name in names if name != "CPU"])
        params.devices = ctypes.addressof(devices)  # type: ignore[assignment]  # the field is a void pointer
        keep.append(devices)
    if spec.tensor_split:
        size = max(int(c.llama_max_devices()), len(spec.tensor_split))
        split = (ctypes.c_float * size)(*spec.tensor_split)
        params.tensor_split = ctypes.cast(split, ctypes.POINTER(ctypes.c_float))  # type: ignore[assignment]  # likewise
        keep.append(split)
    return keep


def _rpc_names(spec: LoadSpec) -> list[str]:
    return add_rpc_servers(spec.rpc) if spec.rpc else []


def _known(token: int) -> int | None:
    return None if token == llama_cpp.LLAMA_TOKEN_NULL else int(token)


def _metadata(handle: int) -> dict[str, str]:
    """Every scalar of the GGUF's header as text, by key."""
    found: dict[str, str] = {}
    for index in range(c.llama_model_meta_count(handle)):
        key = _string(c.llama_model_meta_key_by_index, handle, index)
        found[key] = _string(c.llama_model_meta_val_str_by_index, handle, index)
    return found


def _string(function: Callable[..., int], *arguments: int) -> str:
    size = 256
    while True:
        buffer = ctypes.create_string_buffer(size)
        length = function(*arguments, buffer, size)
        if length < size:
            return buffer.value.decode("utf-8", "replace")
        size = length + 1
