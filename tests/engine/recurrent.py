"""A tiny Mamba GGUF with random weights: a memory that can't be rolled back, decoded by llama.cpp itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGUFWriter, TokenType

from tests.gguf_out import write_out

__all__ = ["build_mamba"]

WIDTH, INNER, STATE, RANK, CONV, BLOCKS = 64, 128, 16, 4, 4, 2


def build_mamba(path: Path, *, seed: int = 5) -> Path:
    """Byte tokens only; its output is noise, but always the same after the same text."""
    rng = np.random.default_rng(seed)
    writer = GGUFWriter(path, "mamba")
    writer.add_context_length(4096)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_block_count(BLOCKS)
    writer.add_ssm_conv_kernel(CONV)
    writer.add_ssm_inner_size(INNER)
    writer.add_ssm_state_size(STATE)
    writer.add_ssm_time_step_rank(RANK)
    writer.add_layer_norm_rms_eps(1e-5)
    tokens = [b"<unk>", b"<s>", b"</s>", *(f"<0x{byte:02X}>".encode() for byte in range(256))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL] + [TokenType.BYTE] * 256)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)

    def matrix(name: str, *shape: int, scale: float = 0.3) -> None:
        writer.add_tensor(name, (rng.standard_normal(shape) * scale).astype(np.float32))

    matrix("token_embd.weight", len(tokens), WIDTH, scale=1.0)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    matrix("output.weight", len(tokens), WIDTH, scale=1.0)
    for block in range(BLOCKS):
        name = f"blk.{block}"
        writer.add_tensor(f"{name}.attn_norm.weight", np.ones(WIDTH, np.float32))
        matrix(f"{name}.ssm_in.weight", 2 * INNER, WIDTH)
        matrix(f"{name}.ssm_conv1d.weight", INNER, CONV)
        matrix(f"{name}.ssm_conv1d.bias", INNER)
        matrix(f"{name}.ssm_x.weight", RANK + 2 * STATE, INNER)
        matrix(f"{name}.ssm_dt.weight", INNER, RANK)
        matrix(f"{name}.ssm_dt.bias", INNER)
        writer.add_tensor(f"{name}.ssm_a", -np.tile(np.arange(1, STATE + 1, dtype=np.float32), (INNER, 1)))
        matrix(f"{name}.ssm_d", INNER)
        matrix(f"{name}.ssm_out.weight", WIDTH, INNER)
    return write_out(writer, path)
