"""llama_batch over numpy arrays: the input of one decode."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence as Seq

import numpy as np
from llama_cpp import llama_cpp as c
from numpy.typing import NDArray

from cortex.engine.scheduling.sequence import Entry, Sequence

__all__ = ["Batch", "EmbeddingBatch"]


class Batch:
    """Up to `size` tokens. The arrays are allocated once and filled by slices, without ctypes objects per token."""

    def __init__(self, size: int) -> None:
        self._token = np.zeros(size, dtype=np.int32)
        self._position = np.zeros(size, dtype=np.int32)
        self._slot = np.zeros(size, dtype=np.int32)
        self._wanted = np.zeros(size, dtype=np.int8)
        self._token_at, self._position_at = self._token.data, self._position.data
        self._slot_at, self._wanted_at = self._slot.data, self._wanted.data
        self._ones = np.ones(size, dtype=np.int32)
        self._slot_addresses = self._slot.ctypes.data + 4 * np.arange(size, dtype=np.uint64)
        self._positions = np.arange(1 << 20, dtype=np.int32)
        self.struct = c.llama_batch()
        self._point("token", self._token)
        self._point("pos", self._position)
        self._point("n_seq_id", self._ones)
        self._point("seq_id", self._slot_addresses)
        self._point("logits", self._wanted)

    def _point(self, name: str, array: NDArray[np.generic]) -> None:
        kind = type(getattr(self.struct, name))
        setattr(self.struct, name, ctypes.cast(array.ctypes.data, kind))

    def fill(self, entries: Seq[Entry[Sequence]]) -> list[int]:
        """Fill in a step's entries; for each the index of its first wanted row, -1 if it wants none."""
        rows: list[int] = []
        at = 0
        for entry in entries:
            sequence, start, count = entry.sequence, entry.start, entry.count
            assert sequence.slot is not None
            first = sequence.tokens.position(start)
            end = at + count
            wanted = entry.rows
            if count == 1:
                self._token_at[at] = sequence.tokens[start]
                self._position_at[at] = first
                self._slot_at[at] = sequence.slot.id
                self._wanted_at[at] = wanted
            else:
                known = count - len(entry.drafts)
                self._token[at : at + known] = sequence.tokens.view(start, start + known)
                if entry.drafts:
                    self._token[at + known : end] = entry.drafts
                self._position[at:end] = self._positions[first : first + count]
                self._slot[at:end] = sequence.slot.id
                self._wanted[at:end] = 0
                self._wanted[end - wanted : end] = 1
            rows.append(end - wanted if wanted else -1)
            at = end
        self.struct.n_tokens = at
        return rows

    def fill_one(self, token: int, slot: int) -> None:
        """Fill in one token at position 0 of an empty `slot`, its row wanted."""
        self._token[0], self._position[0], self._slot[0], self._wanted[0] = token, 0, slot, 1
        self.struct.n_tokens = 1

    def fill_inputs(self, inputs: Seq[list[int]]) -> None:
        """Fill in whole inputs, one sequence id each, counted from 0; every row is wanted."""
        at = 0
        for number, tokens in enumerate(inputs):
            end = at + len(tokens)
            self._token[at:end] = tokens
            self._position[at:end] = self._positions[: len(tokens)]
            self._slot[at:end] = number
            self._wanted[at:end] = 1
            at = end
        self.struct.n_tokens = at


class EmbeddingBatch:
    """llama_batch of embeddings (float32, a row per token) for sequence id `slot`; it must live while C computes it."""

    def __init__(self, slot: int, embeddings: NDArray[np.float32], positions: NDArray[np.int32]) -> None:
        count = len(embeddings)
        self._slot = np.full(1, slot, dtype=np.int32)
        self._arrays: dict[str, NDArray[np.generic]] = {
            "embd": np.ascontiguousarray(embeddings),
            "pos": np.ascontiguousarray(positions),
            "n_seq_id": np.ones(count, dtype=np.int32),
            "seq_id": np.full(count, self._slot.ctypes.data, dtype=np.uint64),
            "logits": np.zeros(count, dtype=np.int8),
        }
        self.struct = c.llama_batch(n_tokens=count)
        for name, array in self._arrays.items():
            setattr(self.struct, name, ctypes.cast(array.ctypes.data, type(getattr(self.struct, name))))
