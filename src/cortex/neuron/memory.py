"""What a model will take, computed from its GGUF: weights, KV cache, recurrent state, compute buffers. Bytes.

The rules are llama.cpp's own: a layer's keys and values are as wide as its attn_k and attn_v tensors; sliding
window layers keep window × sequences + ubatch cells, rounded up to 256; recurrent state is f32, one row per sequence.
The compute buffer is an approximation (see docs/memory.md for how far off); the ledger's measured value replaces it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from cortex.neuron.gguf_file import GGUFHeader

__all__ = ["Estimate", "Shape", "estimate"]

_LAYER = re.compile(r"^blk\.(\d+)\.(.+)$")
_SWA_PERIODS = {"gemma2": 2, "gemma3": 6, "gemma3n": 5, "gpt-oss": 2, "cohere2": 4, "olmo2": 4, "exaone4": 4}
"""Every so many-th layer is full attention, where the file has no pattern of its own (llama.cpp's defaults)."""
_OUTPUT_LAYERS = ("output.weight", "output_norm.weight", "output_norm.bias")


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides the size of a model's context: tokens, sequences, and ggml type names."""

    kv_cells: int
    sequences: int
    ubatch: int = 512
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes by layer (weights, KV with recurrent state), outside the layers, and per device that computes.

    `input_bytes` is the token embedding, which llama.cpp keeps in host memory when layers are offloaded.
    """

    layer_weights: list[int]
    layer_cache: list[int]
    input_bytes: int
    output_bytes: int
    compute_bytes: int

    @property
    def total(self) -> int:
        """On a single device that holds everything."""
        layers = sum(self.layer_weights) + sum(self.layer_cache)
        return layers + self.input_bytes + self.output_bytes + self.compute_bytes

    def split(self, shares: list[float], *, input_on_device: bool) -> list[int]:
        """Bytes per device when layers (or rows) go to devices by `shares` (any positive weights).

        Layers are dealt in order as llama.cpp does, the output with the last; every device has compute buffers.
        """
        count = len(self.layer_weights) + 1
        bounds = [round(count * sum(shares[: index + 1]) / sum(shares)) for index in range(len(shares))]
        per_layer = [w + c for w, c in zip(self.layer_weights, self.layer_cache, strict=True)] + [self.output_bytes]
        starts = [0, *bounds[:-1]]
        held = [sum(per_layer[start:end]) + self.compute_bytes for start, end in zip(starts, bounds, strict=True)]
        held[0] += self.input_bytes if input_on_device else 0
        return held


def estimate(header: GGUFHeader, shape: Shape) -> Estimate:
    """Sizes of `header`'s model with `shape`'s context."""
    layers = header.hyper("block_count")
    weights = [0] * layers
    widths: dict[int, dict[str, int]] = defaultdict(dict)
    outside: dict[str, int] = {}
    for tensor in header.tensors:
        match = _LAYER.match(tensor.name)
        if match and int(match[1]) < layers:
            weights[int(match[1])] += tensor.bytes
            widths[int(match[1])][match[2]] = tensor.shape[-1]
        else:
            outside[tensor.name] = tensor.bytes
    output = sum(outside.get(name, 0) for name in _OUTPUT_LAYERS)
    tied = 0 if "output.weight" in outside else outside.get("token_embd.weight", 0)
    return Estimate(
        layer_weights=weights,
        layer_cache=[_layer_cache(header, shape, layer, widths[layer]) for layer in range(layers)],
        input_bytes=sum(outside.values()) - output - tied,
        output_bytes=output + tied,
        compute_bytes=_compute_bytes(header, shape),
    )


def _layer_cache(header: GGUFHeader, shape: Shape, layer: int, widths: dict[str, int]) -> int:
    recurrent = _recurrent_bytes(header, shape) if any(name.startswith(("ssm_", "shortconv")) for name in widths) else 0
    key, value = _kv_widths(header, layer, widths)
    if not key or (recurrent and "attn_k.weight" not in widths):
        return recurrent
    cells = _cells(header, shape, layer)
    return recurrent + _row(shape.cache_type_k, key) * cells + _row(shape.cache_type_v, value) * cells


def _kv_widths(header: GGUFHeader, layer: int, widths: dict[str, int]) -> tuple[int, int]:
    """Elements of one token's key and value in this layer; MLA keeps one compressed row and no value."""
    if "attn_k.weight" in widths:
        return widths["attn_k.weight"], widths.get("attn_v.weight", widths["attn_k.weight"])
    if "attn_kv_a_mqa.weight" in widths:
        return widths["attn_kv_a_mqa.weight"], 0
    if "attn_qkv.weight" not in widths:
        return 0, 0
    layers = header.hyper("block_count")
    heads = header.per_layer("attention.head_count_kv", layers, header.hyper("attention.head_count"))[layer]
    head = header.hyper("embedding_length") // max(header.hyper("attention.head_count", 1), 1)
    return heads * header.hyper("attention.key_length", head), heads * header.hyper("attention.value_length", head)


def _cells(header: GGUFHeader, shape: Shape, layer: int) -> int:
    window = header.hyper("attention.sliding_window")
    if not window or not _is_sliding(header, layer):
        return shape.kv_cells
    return _padded(min(shape.kv_cells, window * shape.sequences + shape.ubatch), 256)


def _is_sliding(header: GGUFHeader, layer: int) -> bool:
    pattern = header.values.get(f"{header.architecture}.attention.sliding_window_pattern")
    if isinstance(pattern, list):
        return layer < len(pattern) and bool(pattern[layer])
    period = int(pattern) if isinstance(pattern, int) else _SWA_PERIODS.get(header.architecture, 0)
    return bool(period) and layer % period < period - 1


def _recurrent_bytes(header: GGUFHeader, shape: Shape) -> int:
    """Convolution and state rows of a Mamba-like or gated-delta layer, or LFM2's short convolution."""
    if short := header.hyper("shortconv.l_cache"):
        return 4 * shape.sequences * header.hyper("embedding_length") * (short - 1)
    inner, state = header.hyper("ssm.inner_size"), header.hyper("ssm.state_size")
    convolution = max(header.hyper("ssm.conv_kernel") - 1, 0) * (inner + 2 * header.hyper("ssm.group_count") * state)
    return 4 * shape.sequences * (convolution + inner * state)


def _compute_bytes(header: GGUFHeader, shape: Shape) -> int:
    """The larger of the two places where a graph is widest: logits, or the feed-forward with the attention mask."""
    rows = min(shape.ubatch, max(shape.kv_cells, 1))
    vocabulary = header.array_lengths.get("tokenizer.ggml.tokens", header.hyper("vocab_size"))
    width = header.hyper("embedding_length")
    experts = max(header.hyper("expert_used_count"), 1)
    ffn = max(header.hyper("feed_forward_length"), experts * header.hyper("expert_feed_forward_length"))
    mask = 2 * shape.kv_cells * rows
    return 4 * rows * max(vocabulary + width, 3 * width + 2 * ffn) + mask


def _row(type_name: str, width: int) -> int:
    block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[type_name.upper()]]
    return -(-width // block) * block_bytes


def _padded(value: int, step: int) -> int:
    return -(-value // step) * step
