"""A llama.cpp context: decodes batches, gives their logits rows, changes its KV memory."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from contextlib import contextmanager

import numpy as np
from llama_cpp import llama_cpp as c
from numpy.typing import NDArray

from cortex.engine.kv.slot import CopyPrefix, Discard, Reuse, Truncate
from cortex.engine.llama.batch import Batch, EmbeddingBatch
from cortex.engine.llama.context_shape import ContextShape
from cortex.engine.llama.library import LogTap, load_error
from cortex.engine.llama.model import Model
from cortex.engine.llama.sampler import Sampler
from cortex.engine.llama.threads import ThreadPool
from cortex.engine.sampling.params import DEFAULTS
from cortex.engine.scheduling.sequence import Entry, Sequence
from cortex.wire.inference import Sampling
from cortex.wire.worker import LoadSpec

__all__ = ["Aborted", "Context", "DecodeFailed", "NoCells"]

# ggml.h, ggml_type; llama.h, llama_flash_attn_type and llama_pooling_type
_CACHE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "iq4_nl": 20, "bf16": 30}
_FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}
_POOLING = {"none": 0, "mean": 1, "cls": 2, "last": 3, "rank": 4}
_NEAR_TIE = 0.05
"""In logits. Rows of batches of different lengths differed by 1e-3 at most, where they differed at all (llama.cpp's CPU
backend, Q4_1 and Q4_K weights)."""


class DecodeFailed(Exception):
    """llama_decode refused the batch or failed. `fatal` (below -1, llama.h): the context can't be used any more."""

    def __init__(self, code: int) -> None:
        super().__init__(f"llama_decode returned {code}")
        self.code = code
        self.fatal = code < -1


class NoCells(Exception):
    """llama.cpp found no cells for the batch, against the pool's count; its memory is unchanged."""


class Aborted(Exception):
    """The decode was stopped by `Context.abort`; some of the batch may be in memory."""


class Context:
    """Owns the C context, its batch and its threads. Used by one thread at a time, but `abort` by any.

    `backend_sampling`: whether sequences may be sampled on the device. `pooling`: a llama_pooling_type.
    Raises ModelLoadFailed or NoRoom when the context can't be made.
    """

    def __init__(self, model: Model, spec: LoadSpec, shape: ContextShape, tap: LogTap) -> None:
        self.model = model
        self.shape = shape
        self.abort = AbortFlag()
        self.backend_sampling = spec.backend_sampling and not spec.embedding and spec.split_mode != "tensor"
        params = self._params(spec, shape)
        with tap.errors() as errors, self._sampling_planned(params):
            self.handle = c.llama_init_from_model(model.handle, params)
        if not self.handle:
            raise load_error(f"llama.cpp can't make a context of {shape.cells} tokens", errors)
        self.cells = int(c.llama_n_ctx(self.handle))
        self.memory = c.llama_get_memory(self.handle)
        self.pooling = int(c.llama_pooling_type(self.handle))
        self._threads = ThreadPool.attach(self.handle, shape.threads, shape.threads_batch)
        self._batch = Batch(shape.batch)
        self._width = model.vocab.size

    def _params(self, spec: LoadSpec, shape: ContextShape) -> c.llama_context_params:
        params: c.llama_context_params = c.llama_context_default_params()
        params.n_ctx = shape.cells
        params.n_batch = shape.batch
        params.n_ubatch = shape.ubatch
        params.n_seq_max = shape.slots + 1  # the last one is the canary's
        params.n_threads = shape.threads
        params.n_threads_batch = shape.threads_batch
        params.type_k = _CACHE_TYPES[spec.cache_type_k]
        params.type_v = _CACHE_TYPES[spec.cache_type_v]
        params.flash_attn_type = _FLASH_ATTENTION[spec.flash_attention]
        params.kv_unified = True
        # a cache of the window's size would lose what lies outside it, and with it every prefix that could be shared
        params.swa_full = True
        params.no_perf = True
        params.embeddings = spec.embedding
        if spec.pooling is not None:
            params.pooling_type = _POOLING[spec.pooling]
        self.abort.install(params)
        return params

    @contextmanager
    def _sampling_planned(self, params: c.llama_context_params) -> Iterator[None]:
        """Make the context with a sampler where the device may sample: its memory is then reserved with the rest, above
        all a second copy of the logits (SmolLM2: 202 instead of 98 MiB; docs/explanation/performance.md)."""
        if not self.backend_sampling:
            yield
            return
        vocab = self.model.vocab
        usual = Sampling(repeat_penalty=1.1, top_k=min(40, vocab.size)).merged_over(DEFAULTS)
        sampler = Sampler(usual, 0, vocab)
        chain = ctypes.cast(sampler.lend(), ctypes.c_void_p)
        params.samplers = ctypes.pointer(c.llama_sampler_seq_config(0, chain))
        params.n_samplers = 1
        yield
        if self.handle:
            self.set_sampler(0, None)
        sampler.close()
        sampler.take_back()

    # ---- decoding

    def set_sampler(self, slot: int, chain: int | None) -> bool:
        """From the next decode on, `chain` samples the rows of `slot` on the device, one row per decode; None ends it.

        The chain must stay allocated until then. False when llama.cpp leaves it to the CPU.
        """
        return bool(c.llama_set_sampler(self.handle, slot, chain))

    def decode(self, entries: Seq[Entry[Sequence]]) -> list[int]:
        """Compute the batch; for each entry the index of its first wanted logits row, -1 if it wants none.

        Raises NoCells, Aborted or DecodeFailed.
        """
        self.abort.clear()
        rows = self._batch.fill(entries)
        self._check(int(c.llama_decode(self.handle, self._batch.struct)))
        return rows

    def _check(self, code: int) -> None:
        """What llama_decode returned; llama.h says what the codes mean."""
        if code == 0:
            return
        if code == 1:
            raise NoCells
        if code == 2:
            raise Aborted
        raise DecodeFailed(code)

    def logits(self, row: int) -> NDArray[np.float32]:
        """The logits of batch index `row`: float32 of vocabulary size, writable, valid until the next decode."""
        pointer = c.llama_get_logits_ith(self.handle, row)
        return np.ctypeslib.as_array(pointer, shape=(self._width,))

    def nearly_tied(self, row: int) -> bool:
        """Whether the two best tokens of a row are so close that rounding may decide between them."""
        logits = self.logits(row)
        best = int(logits.argmax())
        score = logits[best]
        logits[best] = -np.inf
        second = logits.max()
        logits[best] = score
        return bool(score - second < _NEAR_TIE)

    def decode_embeddings(
        self, slot: int, embeddings: NDArray[np.float32], positions: NDArray[np.int32], *, causal: bool
    ) -> None:
        """Compute cells of `slot` from rows of `embeddings` (tokens x width), without logits.

        `positions`: a row per dimension that attention counts in, a column per token. Rows that are not `causal` attend
        to each other in both directions and must fit one physical batch. Raises as `decode` does.
        """
        self.abort.clear()
        assert causal or len(embeddings) <= self.shape.ubatch, "llama.cpp would end the process"
        if not causal:
            c.llama_set_causal_attn(self.handle, False)
        try:
            for begin in range(0, len(embeddings), self.shape.batch):
                rows = slice(begin, begin + self.shape.batch)
                batch = EmbeddingBatch(slot, embeddings[rows], positions[:, rows])
                self._check(int(c.llama_decode(self.handle, batch.struct)))
        finally:
            if not causal:
                c.llama_set_causal_attn(self.handle, True)

    def decode_inputs(self, inputs: Seq[list[int]]) -> None:
        """Compute whole inputs, one sequence each, for `pooled`. Raises as `decode` does."""
        self.clear()
        self._batch.fill_inputs(inputs)
        self._check(int(c.llama_decode(self.handle, self._batch.struct)))

    def pooled(self, sequence: int, width: int) -> NDArray[np.float32]:
        """The pooled vector of input number `sequence` of the last `decode_inputs`: float32 of `width`, a copy."""
        pointer = c.llama_get_embeddings_seq(self.handle, sequence)
        return np.ctypeslib.as_array(pointer, shape=(width,)).copy()

    # ---- memory

    @property
    def reuse(self) -> Reuse:
        """What the memory of this model can do with prefixes."""
        if not self.memory:
            return Reuse.NONE
        return Reuse.EXACT if self.model.recurrent or self.model.hybrid else Reuse.PARTIAL

    def apply(self, effect: CopyPrefix | Truncate | Discard) -> None:
        """Change llama.cpp's memory. Raises DecodeFailed (fatal) if a tail can't be removed."""
        match effect:
            case CopyPrefix(source, target, length):
                end = length if self.reuse is Reuse.PARTIAL else -1
                c.llama_memory_seq_cp(self.memory, source, target, -1, end)
            case Truncate(slot, length):
                if not c.llama_memory_seq_rm(self.memory, slot, length, -1):
                    raise DecodeFailed(-3)
            case Discard(slot):
                c.llama_memory_seq_rm(self.memory, slot, -1, -1)

    def clear(self) -> None:
        """Remove every sequence from memory."""
        if self.memory:
            c.llama_memory_clear(self.memory, False)

    def held(self, slot: int) -> int:
        """How many positions of a sequence id are in memory."""
        return int(c.llama_memory_seq_pos_max(self.memory, slot)) + 1 if self.memory else 0

    def decode_canary(self, token: int) -> None:
        """Compute one token on the sequence id reserved for it, and remove it again. Raises as `decode` does."""
        slot = self.shape.slots
        self.abort.clear()
        self._batch.fill_one(token, slot)
        try:
            self._check(int(c.llama_decode(self.handle, self._batch.struct)))
        finally:
            c.llama_memory_seq_rm(self.memory, slot, -1, -1)

    def save_slot(self, slot: int) -> bytes:
        """The state of one sequence id, for `restore_slot` (llama_state_seq_get_data)."""
        size = int(c.llama_state_seq_get_size(self.handle, slot))
        buffer = (ctypes.c_uint8 * size)()
        written = int(c.llama_state_seq_get_data(self.handle, buffer, size, slot))
        return bytes(memoryview(buffer)[:written])

    def restore_slot(self, slot: int, state: bytes) -> bool:
        """Fill an empty sequence id; False when llama.cpp finds no room, or a state of another shape."""
        pointer = ctypes.cast(ctypes.c_char_p(state), ctypes.POINTER(ctypes.c_uint8))
        return int(c.llama_state_seq_set_data(self.handle, pointer, len(state), slot)) > 0

    def close(self) -> None:
        if self.handle:
            c.llama_free(self.handle)
            self.handle = None
            self._threads.close()


class AbortFlag:
    """Stops a running decode from any thread (CPU backend only: llama.h, abort_callback).

    ggml calls a C function between graph nodes. A Python one would take the interpreter lock hundreds of times per
    decode; `strlen` of a one-byte string gives the same answer: an empty string is false.
    """

    def __init__(self) -> None:
        self._byte = ctypes.create_string_buffer(2)

    def install(self, params: c.llama_context_params) -> None:
        strlen = ctypes.cast(ctypes.CDLL(None).strlen, ctypes.c_void_p).value
        assert strlen is not None
        params.abort_callback = c.ggml_abort_callback(strlen)
        params.abort_callback_data = ctypes.c_void_p(ctypes.addressof(self._byte))

    def set(self) -> None:
        self._byte[0] = b"1"

    def clear(self) -> None:
        self._byte[0] = b"\0"
