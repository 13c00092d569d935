"""What a model will take, computed from its GGUF header: weights, KV cache, recurrent state, compute buffers. Bytes.

The rules are those of llama.cpp as the engine uses it: a layer's keys and values are as wide as its attn_k and attn_v
tensors (llama-kv-cache.cpp); layers with a sliding window keep a whole cache too (`swa_full`: a windowed cache drops
prefixes that other requests could share); recurrent state is f32, one row per sequence id (llama-memory-recurrent.cpp).
Compute buffers are an approximation: docs/explanation/memory.md has its error per model, and the measured size replaces
it after the first load.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from cortex.neuron.catalog.gguf_header import GGUFHeader

__all__ = ["Estimate", "Shape", "estimate", "projector_bytes"]

_LAYER = re.compile(r"^blk\.(\d+)\.(.+)$")
_OUTPUT_LAYERS = ("output.weight", "output_norm.weight", "output_norm.bias")
_CACHED_SLOTS, _CACHED_STATES = 96, 4
"""Sequence ids that the engine keeps for prefixes of finished requests, beyond the running ones, without and with a
recurrent state per sequence; as in `engine.loading`."""
_MIN_PATCHES = 46
"""Patches per side for which llama.cpp reserves buffers at least, in encoders of any image size
(tools/mtmd/clip.cpp: set_warmup_n_tokens)."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the size of a model's context depends on: cells and ubatch in tokens, sequences decoded together, and the
    cache's ggml type names."""

    kv_cells: int
    parallel: int
    ubatch: int = 512
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    flash_attention: bool = True


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes: two lists with an entry per layer (weights; KV with recurrent state), the tensors outside the layers, and
    the compute buffers of one device.

    llama.cpp keeps `input_bytes` (the token embedding) and `logits_bytes` (one row per sequence id) in host memory when
    layers are offloaded.
    """

    layer_weights: list[int]
    layer_cache: list[int]
    input_bytes: int
    output_bytes: int
    compute_bytes: int
    logits_bytes: int

    @property
    def total(self) -> int:
        """On one device that holds everything, the CPU."""
        return self.offloaded + self.input_bytes + self.logits_bytes

    @property
    def offloaded(self) -> int:
        """On one GPU with all layers."""
        return sum(self.layer_weights) + sum(self.layer_cache) + self.output_bytes + self.compute_bytes

    def split(self, shares: list[float]) -> list[int]:
        """Bytes per device when layers (or rows) are distributed by `shares` (any positive weights).

        Layers are assigned in order, the output with the last, as in llama_model::load_tensors (llama-model.cpp); every
        device has compute buffers.
        """
        count = len(self.layer_weights) + 1
        bounds = [round(count * sum(shares[: index + 1]) / sum(shares)) for index in range(len(shares))]
        per_layer = [w + c for w, c in zip(self.layer_weights, self.layer_cache, strict=True)] + [self.output_bytes]
        starts = [0, *bounds[:-1]]
        return [sum(per_layer[start:end]) + self.compute_bytes for start, end in zip(starts, bounds, strict=True)]


def estimate(header: GGUFHeader, shape: Shape) -> Estimate:
    """Sizes of `header`'s model with a context of `shape`. Pure."""
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
    cached = layers if header.hyper("attention.causal", 1) else 0  # an encoder has no cache
    cache = [_layer_cache(header, shape, layer, widths[layer]) for layer in range(cached)]
    return Estimate(
        layer_weights=weights,
        layer_cache=cache or [0] * layers,
        input_bytes=sum(outside.values()) - output - tied,
        output_bytes=output + tied,
        compute_bytes=_compute_bytes(header, shape),
        logits_bytes=4 * _vocabulary(header) * _sequence_ids(shape, recurrent=_is_recurrent(widths)),
    )


def projector_bytes(header: GGUFHeader) -> int:
    """Bytes of a vision projector's weights and of its compute buffers, which hold one layer's activations (f32) over
    all patches of an image."""

    def hyper(key: str) -> int:
        return header.number(f"clip.vision.{key}")

    side = max(hyper("image_size") // max(hyper("patch_size"), 1), _MIN_PATCHES)
    width = 3 * hyper("embedding_length") + hyper("feed_forward_length")
    return sum(tensor.bytes for tensor in header.tensors) + 4 * side**2 * width


def _layer_cache(header: GGUFHeader, shape: Shape, layer: int, widths: dict[str, int]) -> int:
    recurrent = _recurrent_bytes(header, shape) if _is_recurrent({layer: widths}) else 0
    key, value = _kv_widths(header, layer, widths)
    if not key or (recurrent and "attn_k.weight" not in widths):
        return recurrent
    row = _row(shape.cache_type_k, key) + _row(shape.cache_type_v, value)
    return recurrent + row * _padded(shape.kv_cells, 256)


def _is_recurrent(widths: dict[int, dict[str, int]]) -> bool:
    return any(name.startswith(("ssm_", "shortconv")) for layer in widths.values() for name in layer)


def _sequence_ids(shape: Shape, *, recurrent: bool) -> int:
    """As many as the engine's context has: running, cached, and one for the canary."""
    cached = min(shape.parallel, _CACHED_STATES) if recurrent else _CACHED_SLOTS
    return min(shape.parallel + cached, 255) + 1


def _kv_widths(header: GGUFHeader, layer: int, widths: dict[str, int]) -> tuple[int, int]:
    """Elements of one token's key and value in this layer; MLA caches one compressed row and no value."""
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


def _recurrent_bytes(header: GGUFHeader, shape: Shape) -> int:
    """Bytes of the convolution and state rows of a Mamba-like or gated-delta layer, or of LFM2's short convolution."""
    rows = _sequence_ids(shape, recurrent=True)
    if short := header.hyper("shortconv.l_cache"):
        return 4 * rows * header.hyper("embedding_length") * (short - 1)
    inner, state = header.hyper("ssm.inner_size"), header.hyper("ssm.state_size")
    convolution = max(header.hyper("ssm.conv_kernel") - 1, 0) * (inner + 2 * header.hyper("ssm.group_count") * state)
    return 4 * rows * (convolution + inner * state)


def _compute_bytes(header: GGUFHeader, shape: Shape) -> int:
    """Bytes of the largest set of tensors that are alive at one time, since buffers are reused: the logits of a whole
    ubatch, or a layer's feed-forward beside the attention mask (and, without flash attention, every head's scores).

    The multiples of the width, and 13/12 for what the allocator wastes on the mask, are fitted to the buffers that
    llama.cpp 0.3.36 (llama-cpp-python) reported on CPU for the models of docs/explanation/memory.md.
    """
    rows = min(shape.ubatch, max(shape.kv_cells, 1))
    width = header.hyper("embedding_length")
    experts = max(header.hyper("expert_used_count"), 1)
    ffn = max(header.hyper("feed_forward_length"), experts * header.hyper("expert_feed_forward_length"))
    scores = 0 if shape.flash_attention else 4 * header.hyper("attention.head_count") * shape.kv_cells * rows
    mask = 2 * shape.kv_cells * rows * 13 // 12
    return max(4 * rows * (_vocabulary(header) + 2 * width), 4 * rows * (6 * width + 2 * ffn) + mask + scores)


def _vocabulary(header: GGUFHeader) -> int:
    return header.array_lengths.get("tokenizer.ggml.tokens", header.hyper("vocab_size"))


def _row(type_name: str, width: int) -> int:
    block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[type_name.upper()]]
    return -(-width // block) * block_bytes


def _padded(value: int, step: int) -> int:
    return -(-value // step) * step
