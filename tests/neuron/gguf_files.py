"""Small GGUF files for tests: real headers, next to no data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGUFWriter

from tests.gguf_out import write_out

__all__ = ["write_gguf", "write_projector"]


def write_gguf(
    path: Path,
    *,
    architecture: str = "llama",
    layers: int = 2,
    width: int = 32,
    vocabulary: int = 64,
    context: int = 256,
    template: str | None = "{{ messages }}",
    extra: dict[str, int] | None = None,
    recurrent: bool = False,
    file_type: int = 0,
) -> Path:
    """A file that reads as a model of `layers` attention layers with one key-value head of 16."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(path, architecture)
    writer.add_block_count(layers)
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(2 * width)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_file_type(file_type)
    for key, value in (extra or {}).items():
        writer.add_uint32(f"{architecture}.{key}", value)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"t{index}" for index in range(vocabulary)])
    if template is not None:
        writer.add_chat_template(template)
    writer.add_tensor("token_embd.weight", np.zeros((vocabulary, width), np.float32))
    writer.add_tensor("output.weight", np.zeros((vocabulary, width), np.float32))
    for layer in range(layers):
        for kind in ["ssm_in"] if recurrent else ["attn_k", "attn_v"]:
            writer.add_tensor(f"blk.{layer}.{kind}.weight", np.zeros((16, width), np.float32))
        writer.add_tensor(f"blk.{layer}.ffn_up.weight", np.zeros((2 * width, width), np.float32))
    return write_out(writer, path)


def write_projector(path: Path, *, sees: bool = True) -> Path:
    """A projector's header with 48 KiB of weights; one that doesn't see is for sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(path, "clip")
    writer.add_bool("clip.has_vision_encoder" if sees else "clip.has_audio_encoder", True)
    writer.add_uint32("clip.vision.image_size", 896)
    writer.add_uint32("clip.vision.patch_size", 14)
    writer.add_uint32("clip.vision.embedding_length", 32)
    writer.add_uint32("clip.vision.feed_forward_length", 64)
    writer.add_tensor("mm.0.weight", np.zeros((96, 128), np.float32))
    return write_out(writer, path)
