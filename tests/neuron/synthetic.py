"""GGUF files that llama.cpp really loads, of any architecture and size, with weights that mean nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, TokenType

from tests.gguf_out import write_out

__all__ = ["MODELS", "Build", "write_synthetic"]


@dataclass(frozen=True)
class Build:
    """Sizes of a model; `experts` (all, used) make its feed-forward a mixture, `window` slides attention."""

    architecture: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int
    head_width: int
    tied: bool = False
    experts: tuple[int, int] | None = None
    window: int = 0


MODELS = {
    "llama, grouped heads": Build("llama", 12, 768, 12, 4, 2048, 32_000, 64),
    "llama, wide and shallow": Build("llama", 4, 2048, 16, 16, 5632, 8_000, 128, tied=True),
    "qwen2": Build("qwen2", 16, 512, 8, 2, 2816, 100_000, 64, tied=True),
    "qwen3": Build("qwen3", 8, 1024, 16, 8, 3072, 50_000, 128, tied=True),
    "gemma2, sliding window": Build("gemma2", 10, 640, 8, 4, 3456, 60_000, 128, tied=True, window=512),
    "qwen3moe": Build("qwen3moe", 6, 512, 8, 4, 256, 40_000, 64, experts=(16, 4)),
}


def write_synthetic(path: Path, build: Build) -> Path:
    """Matrices of f16, all alike: only their sizes count."""
    writer = GGUFWriter(path, build.architecture)
    _add_numbers(writer, build)
    _add_vocabulary(writer, build.vocabulary)
    for name, shape in _matrices(build).items():
        vector = len(shape) == 1
        writer.add_tensor(f"{name}", np.full(shape, 0.01, np.float32 if vector else np.float16))
    return write_out(writer, path)


def _add_numbers(writer: GGUFWriter, build: Build) -> None:
    writer.add_context_length(32_768)
    writer.add_embedding_length(build.width)
    writer.add_block_count(build.layers)
    writer.add_feed_forward_length(build.feed_forward)
    writer.add_head_count(build.heads)
    writer.add_head_count_kv(build.kv_heads)
    writer.add_key_length(build.head_width)
    writer.add_value_length(build.head_width)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_file_type(1)
    if build.window:
        writer.add_sliding_window(build.window)
    if build.experts:
        writer.add_expert_count(build.experts[0])
        writer.add_expert_used_count(build.experts[1])
        writer.add_expert_feed_forward_length(build.feed_forward)


def _add_vocabulary(writer: GGUFWriter, size: int) -> None:
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL, *[TokenType.BYTE] * 256]
    rest = size - len(special)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([*special, *(f"\u2581w{index}" for index in range(rest))])
    writer.add_token_scores([0.0] * size)
    writer.add_token_types([*kinds, *[TokenType.NORMAL] * rest])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def _matrices(build: Build) -> dict[str, tuple[int, ...]]:
    """As (outputs, inputs), by name."""
    found: dict[str, tuple[int, ...]] = {"token_embd.weight": (build.vocabulary, build.width)}
    found["output_norm.weight"] = (build.width,)
    if not build.tied:
        found["output.weight"] = (build.vocabulary, build.width)
    for layer in range(build.layers):
        found |= {f"blk.{layer}.{name}": shape for name, shape in (_attention(build) | _feed_forward(build)).items()}
    return found


def _attention(build: Build) -> dict[str, tuple[int, ...]]:
    queries, keys = build.heads * build.head_width, build.kv_heads * build.head_width
    found: dict[str, tuple[int, ...]] = {
        "attn_norm.weight": (build.width,),
        "attn_q.weight": (queries, build.width),
        "attn_k.weight": (keys, build.width),
        "attn_v.weight": (keys, build.width),
        "attn_output.weight": (build.width, queries),
    }
    if build.architecture == "qwen2":
        found |= {"attn_q.bias": (queries,), "attn_k.bias": (keys,), "attn_v.bias": (keys,)}
    if build.architecture.startswith("qwen3"):
        found |= {"attn_q_norm.weight": (build.head_width,), "attn_k_norm.weight": (build.head_width,)}
    if build.architecture == "gemma2":
        found |= {"post_attention_norm.weight": (build.width,), "post_ffw_norm.weight": (build.width,)}
    return found


def _feed_forward(build: Build) -> dict[str, tuple[int, ...]]:
    width, inner = build.width, build.feed_forward
    found: dict[str, tuple[int, ...]] = {"ffn_norm.weight": (width,)}
    if build.experts is None:
        return found | {
            "ffn_gate.weight": (inner, width),
            "ffn_up.weight": (inner, width),
            "ffn_down.weight": (width, inner),
        }
    count = build.experts[0]
    return found | {
        "ffn_gate_inp.weight": (count, width),
        "ffn_gate_exps.weight": (count, inner, width),
        "ffn_up_exps.weight": (count, inner, width),
        "ffn_down_exps.weight": (count, width, inner),
    }
