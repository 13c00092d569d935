"""The name people give a GGUF's quantisation (`Q4_K_M`), from its header."""

from __future__ import annotations

from collections import Counter

from gguf.constants import GGMLQuantizationType, LlamaFileType

from cortex.neuron.catalog.gguf_header import GGUFHeader

__all__ = ["quantisation_of"]


def quantisation_of(header: GGUFHeader) -> str:
    """From `general.file_type`; without it, the type that holds most bytes."""
    if "general.file_type" in header.values:
        try:
            return LlamaFileType(header.number("general.file_type")).name.removeprefix("MOSTLY_").removeprefix("ALL_")
        except ValueError:
            return "unknown"
    weights: Counter[int] = Counter()
    for tensor in header.tensors:
        weights[tensor.type] += tensor.bytes
    if not weights:
        return ""
    try:
        return GGMLQuantizationType(weights.most_common(1)[0][0]).name
    except ValueError:
        return "unknown"
