"""Images, and small models with a vision encoder: projectors whose weights are constructed, not trained.

`build_projector` makes a real mmproj file of a few hundred kilobytes. It turns a patch of pure red into the embedding
of one token of a text model, and a patch of pure blue into that of another. With a scripted text model that has a
script for either token, llama.cpp's answer depends on the image:

    build_seeing(directory)   # "<image>\\n<|look|>" → "Red it is." or "Blue it is, I'd say."

`build_random` makes a text model with random weights, for comparing logits.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
from gguf import GGUFReader, GGUFWriter
from numpy.typing import NDArray

from tests.gguf_out import write_out
from tests.scripted import LOOP, Script, add_tokenizer, build_scripted, make_vocabulary

__all__ = ["BLUE", "RED", "SEEING_TEMPLATE", "Kind", "build_projector", "build_random", "build_seeing", "png"]

Kind = Literal["mlp", "gemma3", "qwen2vl"]
"""How image tokens attend: causally; in both directions; causally with separate row and column positions (M-RoPE)."""

RED, BLUE = (255, 0, 0), (0, 0, 255)
PATCH = 4
SIDE = 8
"""Pixels: two by two patches, so that an image becomes four tokens."""
SEEING_TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}"
    "{% if m.tool_calls %}{% for call in m.tool_calls %}{{ call.function.name }}"
    "({{ call.function.arguments | tojson }}){% endfor %}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if 'tick' in messages[-1].content %}<|loop|>{% else %}<|look|>{% endif %}"
)
_AFTER_IMAGE: Script = [b"\n", "<|look|>"]
_SCRIPTS: dict[str, Script] = {
    "<|red|>": [*_AFTER_IMAGE, "Red ", "it is."],
    "<|blue|>": [*_AFTER_IMAGE, "Blue ", "it is, I'd say."],
    "<|loop|>": ["tick ", "tock ", LOOP],
}


def png(colour: tuple[int, int, int], width: int = 32, height: int = 32) -> bytes:
    """A PNG file of one colour."""
    row = b"\0" + bytes(colour) * width
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(row * height)),
        (b"IEND", b""),
    ]
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def build_seeing(directory: Path, name: str = "seeing") -> tuple[Path, Path]:
    """The scripted model that tells red from blue, and its projector."""
    text = build_scripted(
        directory / f"{name}.gguf", _SCRIPTS, template=SEEING_TEMPLATE, control=["<|look|>"], context=8192
    )
    red, blue = embeddings(text, "<|red|>"), embeddings(text, "<|blue|>")
    return text, build_projector(directory / f"mmproj-{name}.gguf", red, blue)


def embeddings(model: Path, token: str) -> NDArray[np.float32]:
    """A token's row of a GGUF's embedding matrix, float32."""
    reader = GGUFReader(model)
    field = reader.fields["tokenizer.ggml.tokens"]
    texts = [bytes(field.parts[index]).decode() for index in field.data]
    matrix = next(tensor for tensor in reader.tensors if tensor.name == "token_embd.weight").data
    return np.array(matrix[texts.index(token)], dtype=np.float32)


def build_projector(
    path: Path,
    red: NDArray[np.float32],
    blue: NDArray[np.float32],
    kind: Kind = "mlp",
    *,
    side: int = SIDE,
    merge: int = 1,
    layers: int = 1,
) -> Path:
    """An encoder for images of `side` by `side` pixels, whose `layers` add nothing.

    For `gemma3`, `merge` by `merge` patches are averaged into one token.

    Channel 0 of a patch is its red less its blue (2 to -2), channel 1 the reverse, channel 2 always one.
    """
    width = 8
    writer = GGUFWriter(path, "clip")
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type(kind if kind != "qwen2vl" else "qwen2vl_merger")
    writer.add_vision_image_size(side)
    writer.add_vision_patch_size(PATCH)
    writer.add_vision_embedding_length(width)
    writer.add_vision_feed_forward_length(width)
    writer.add_vision_projection_dim(len(red))
    writer.add_vision_block_count(layers)
    writer.add_vision_head_count(1)
    writer.add_vision_attention_layernorm_eps(1e-6)
    writer.add_vision_image_mean([0.5, 0.5, 0.5])
    writer.add_vision_image_std([0.5, 0.5, 0.5])
    writer.add_vision_use_gelu(True)
    if kind == "gemma3":
        writer.add_vision_projector_scale_factor(merge)
    _add_patches(writer, width, kind, (side // PATCH) ** 2)
    for layer in range(layers):
        _add_idle_layer(writer, width, layer)
    _add_head(writer, width, red, blue, kind)
    return write_out(writer, path)


def _add_patches(writer: GGUFWriter, width: int, kind: Kind, count: int) -> None:
    kernel = np.zeros((width, 3, PATCH, PATCH), np.float32)
    kernel[0, 0], kernel[0, 2] = 1 / PATCH**2, -1 / PATCH**2
    kernel[1] = -kernel[0]
    if kind == "qwen2vl":  # a still image goes through both frames' kernels
        writer.add_tensor("v.patch_embd.weight", kernel / 2)
        writer.add_tensor("v.patch_embd.weight.1", kernel / 2)
        return
    bias = np.zeros(width, np.float32)
    bias[2] = 1
    writer.add_tensor("v.patch_embd.weight", kernel)
    writer.add_tensor("v.patch_embd.bias", bias)
    writer.add_tensor("v.position_embd.weight", np.zeros((count, width), np.float32))


def _add_idle_layer(writer: GGUFWriter, width: int, layer: int) -> None:
    """A transformer layer that adds nothing."""
    for part in ("attn_q", "attn_k", "attn_v", "attn_out", "ffn_up", "ffn_down"):
        writer.add_tensor(f"v.blk.{layer}.{part}.weight", np.zeros((width, width), np.float32))
        writer.add_tensor(f"v.blk.{layer}.{part}.bias", np.zeros(width, np.float32))
    for part in ("ln1", "ln2"):
        writer.add_tensor(f"v.blk.{layer}.{part}.weight", np.ones(width, np.float32))
        writer.add_tensor(f"v.blk.{layer}.{part}.bias", np.zeros(width, np.float32))


def _add_head(writer: GGUFWriter, width: int, red: NDArray[np.float32], blue: NDArray[np.float32], kind: Kind) -> None:
    if kind == "gemma3":  # a normalised linear map: (1, -1, 1/2) for red, (-1, 1, 1/2) for blue, up to a factor
        linear = np.zeros((width, len(red)), np.float32)
        linear[0], linear[2] = (red - blue) / 2, red + blue
        writer.add_tensor("mm.input_projection.weight", linear)
        writer.add_tensor("mm.soft_emb_norm.weight", np.ones(width, np.float32))
        return
    merged = 4 if kind == "qwen2vl" else 1
    gain = 10.0  # GELU(10 · 2) is 20, GELU(-10 · 2) is 0
    hidden = np.zeros((width, width * merged), np.float32)
    hidden[0, 0] = hidden[1, 1] = gain
    out = np.zeros((len(red), width), np.float32)
    out[:, 0], out[:, 1] = red / (2 * gain), blue / (2 * gain)
    for number, matrix in ((0, hidden), (2, out)):
        writer.add_tensor(f"mm.{number}.weight", matrix)
        writer.add_tensor(f"mm.{number}.bias", np.zeros(len(matrix), np.float32))


def build_random(path: Path, architecture: Literal["llama", "qwen2vl"], *, width: int = 64, seed: int = 1) -> Path:
    """A text model of two layers with random weights and a byte vocabulary, for comparing logits."""
    random = np.random.default_rng(seed)
    vocab = make_vocabulary(
        "<s>", "</s>", ["<|vision_start|>", "<|vision_end|>", "<start_of_image>", "<end_of_image>"], []
    )
    writer = GGUFWriter(path, architecture)
    add_tokenizer(writer, vocab, bos="<s>", eos="</s>", eot=None, add_bos=True)
    writer.add_vocab_size(len(vocab.texts))
    writer.add_context_length(4096)
    writer.add_embedding_length(width)
    writer.add_block_count(2)
    writer.add_feed_forward_length(width)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_rope_dimension_count(width // 4)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_file_type(0)
    if architecture == "qwen2vl":
        writer.add_rope_dimension_sections([2, 3, 3, 0])

    def noise(name: str, *shape: int) -> None:
        writer.add_tensor(name, random.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(shape[-1])))

    noise("token_embd.weight", len(vocab.texts), width)
    noise("output.weight", len(vocab.texts), width)
    writer.add_tensor("output_norm.weight", np.ones(width, np.float32))
    for block in range(2):
        for part in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_gate", "ffn_down"):
            noise(f"blk.{block}.{part}.weight", width, width)
        for part in ("attn_q", "attn_k", "attn_v") if architecture == "qwen2vl" else ():
            noise(f"blk.{block}.{part}.bias", width)
        for part in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{block}.{part}.weight", np.ones(width, np.float32))
    return write_out(writer, path)
