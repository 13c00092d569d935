"""A model's projector for images (mmproj), over llama.cpp's libmtmd.

libmtmd decides which chunks an image becomes and which marker tokens go around it: it is given the whole prompt in
parts and returns the chunks in order. First with the images' sizes only, so that a prompt is laid out without decoding
an image; then, for an image that must really be encoded, with the pixels of that one.
"""

from __future__ import annotations

import ctypes
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import numpy as np
from llama_cpp import llama_cpp as c
from llama_cpp import mtmd_cpp as m
from numpy.typing import NDArray

from cortex.engine.llama.context import Context
from cortex.engine.llama.library import LogTap, device_list, device_names, is_accelerator, load_error
from cortex.engine.llama.model import Model
from cortex.engine.scheduling.sequence import Entry, Sequence
from cortex.engine.vision.image_file import image_size
from cortex.engine.vision.spans import Picture, PreparedPrompt, PromptLayout, image_key, images_in
from cortex.errors import BadRequest, InternalError, ModelLoadFailed, UnsupportedValue
from cortex.wire.worker import LoadSpec

__all__ = ["MAX_IMAGES", "Projector"]

logger = logging.getLogger(__name__)

MAX_IMAGES = 100
"""Images per request."""
_FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}
_KNOWN_IMAGES = 4096
"""Images remembered as decodable: a conversation brings the same ones with every turn."""
_NODES_PER_PIECE = 4
"""Graph nodes that an encoding on the CPU computes between two pauses."""
_SAMPLE = (512, 512)
"""Width and height of the image that is laid out when a projector is loaded."""


class Projector:
    """For one model. `layout` may be called from one thread, `encode` from another, `decode` from the engine's loop.

    `key` names the projector in image keys; `interruptible` is None where images are encoded on a device.
    """

    def __init__(
        self, handle: int, model: Model, key: bytes, ubatch: int, interruptible: InterruptibleEncoding | None
    ) -> None:
        self.handle = handle
        self.interruptible = interruptible
        self._model = model
        self._key = key
        self._ubatch = ubatch
        self._mrope = bool(m.mtmd_decode_use_mrope(handle))
        self._width = int(c.llama_model_n_embd_inp(model.handle))
        self._decodable: OrderedDict[bytes, None] = OrderedDict()
        self.description = ""
        """For the operator: how many tokens an image takes, how positions count and which way attention goes."""

    @classmethod
    def load(cls, spec: LoadSpec, model: Model, tap: LogTap, *, threads: int, ubatch: int) -> Projector:
        """Read the projector of `spec` for its `model`. Raises ModelLoadFailed with llama.cpp's own reason."""
        assert spec.mmproj is not None
        path = Path(spec.mmproj)
        if not path.is_file():
            raise ModelLoadFailed(f"mmproj {path}: no such file")
        m.mtmd_helper_log_set(tap.callback, None)
        device = _device(spec)
        params = _params(spec, device, threads)
        interruptible = None if device else InterruptibleEncoding(params)
        with tap.errors() as errors:
            handle = m.mtmd_init_from_file(str(path).encode(), model.handle, params)
        if not handle:
            raise load_error(f"llama.cpp can't use mmproj {path} with {spec.model}", errors)
        tap.count(device or "CPU", path.stat().st_size)
        projector = cls(handle, model, f"{path.name}:{path.stat().st_size}".encode()[-64:], ubatch, interruptible)
        try:
            projector.check(path)
        except BaseException:
            projector.close()
            raise
        return projector

    def check(self, path: Path) -> None:
        """Lay out an image of 512x512. Raises ModelLoadFailed if the projector doesn't fit the model."""
        if not m.mtmd_support_vision(self.handle):
            raise ModelLoadFailed(f"mmproj {path} has no vision encoder: remove it from the model's profile")
        try:
            sample = self._laid_out([b""], {b"": _SAMPLE})
        except (UnsupportedValue, InternalError) as error:
            raise ModelLoadFailed(f"mmproj {path} does not go with this model: {error.message}") from error
        self.description = self._described(sample)
        logger.info("projector loaded file=%s %s", path, self.description)

    def close(self) -> None:
        if self.handle:
            m.mtmd_free(self.handle)
            self.handle = 0

    def _described(self, sample: PreparedPrompt) -> str:
        counting = "rows and columns" if self._mrope else "tokens"
        order = "causal" if all(span.causal for span in sample.spans) else "in both directions"
        width, height = _SAMPLE
        return (
            f"vision: an image of {width}x{height} takes {sum(span.count for span in sample.spans)} tokens, "
            f"positions count {counting}, attention within it is {order}"
        )

    # ---- a prompt's layout

    def layout(self, parts: Seq[str | bytes]) -> PreparedPrompt:
        """A prompt of texts and images as tokens and spans.

        Raises BadRequest for an image that can't be read, UnsupportedValue for one that doesn't fit this model or for a
        prompt that ends with one.
        """
        images = list(dict.fromkeys(part for part in parts if isinstance(part, bytes)))
        if len(images) > MAX_IMAGES:
            raise BadRequest(
                f"{len(images)} images in one request; at most {MAX_IMAGES} are accepted", param="messages"
            )
        sizes = {image: image_size(image) for image in images}
        for image in images:
            self._check_decodable(image, sizes[image])
        prompt = self._laid_out(list(parts), sizes)
        if prompt.spans[-1].end == len(prompt.tokens):
            raise UnsupportedValue("nothing follows the last image in the prompt: it needs a text", param="messages")
        return prompt

    def _check_decodable(self, image: bytes, size: tuple[int, int]) -> None:
        key = image_key(image, self._key)
        if key not in self._decodable:
            with self._decoded(image) as bitmap:
                if (m.mtmd_bitmap_get_nx(bitmap), m.mtmd_bitmap_get_ny(bitmap)) != size:
                    raise BadRequest("an image does not have the size that its header says", param="messages")
        self._decodable[key] = None
        self._decodable.move_to_end(key)
        if len(self._decodable) > _KNOWN_IMAGES:
            self._decodable.popitem(last=False)

    def _laid_out(self, parts: list[str | bytes], sizes: dict[bytes, tuple[int, int]]) -> PreparedPrompt:
        prompt = PromptLayout(parts, self._key, self._model.vocab.size)
        with _pieces(parts, sizes) as pieces, self._chunks(pieces) as chunks:
            prompt.add_text(self._missing_bos(chunks))
            for chunk in chunks:
                if m.mtmd_input_chunk_get_type(chunk) == m.MTMD_INPUT_CHUNK_TYPE_TEXT:
                    prompt.add_text(_text_tokens(chunk))
                else:
                    self._add_span(prompt, chunk)
        return prompt.finished()

    def _missing_bos(self, chunks: list[int]) -> list[int]:
        vocab = self._model.vocab
        first = _text_tokens(chunks[0])[:1] if chunks else []
        return [vocab.bos] if vocab.add_bos and vocab.bos is not None and first != [vocab.bos] else []

    def _add_span(self, prompt: PromptLayout, chunk: int) -> None:
        count = int(m.mtmd_input_chunk_get_n_tokens(chunk))
        causal = not m.mtmd_decode_use_non_causal(self.handle, chunk)
        if not causal and count > self._ubatch:
            raise UnsupportedValue(
                f"an image takes {count} tokens, which this model computes in one physical batch of {self._ubatch}: "
                f"send a smaller image, or let the operator set ubatch = {count} for the model",
                param="messages",
            )
        prompt.add_span(
            int(m.mtmd_input_chunk_get_id(chunk) or b"0"),
            self._positions(chunk, prompt.position, count),
            int(m.mtmd_input_chunk_get_n_pos(chunk)),
            whole=self._mrope or not causal,
            causal=causal,
        )

    def _positions(self, chunk: int, first: int, count: int) -> NDArray[np.int32]:
        if not self._mrope:
            return np.arange(first, first + count, dtype=np.int32)[np.newaxis]
        found = np.zeros((count, 4), dtype=np.int32)
        pointer = ctypes.cast(found.ctypes.data, ctypes.POINTER(m.mtmd_decoder_pos))
        m.mtmd_helper_image_get_decoder_pos(m.mtmd_input_chunk_get_tokens_image(chunk), first, pointer)
        t, x, y, z = found.T
        return np.ascontiguousarray(np.stack([t, y, x, z]))  # llama.cpp's order

    @contextmanager
    def _chunks(self, pieces: Seq[str | int]) -> Iterator[list[int]]:
        """Handles of the chunks that libmtmd makes of texts and bitmaps, valid inside the block."""
        chunks = m.mtmd_input_chunks_init()
        keep = [_part(piece) for piece in pieces]
        pointers = (ctypes.POINTER(m.mtmd_input_part) * len(keep))(*(ctypes.pointer(part) for part in keep))
        try:
            if m.mtmd_tokenize_from_parts(self.handle, chunks, pointers, len(keep), False):
                raise InternalError("llama.cpp could not lay out a prompt with images (see the worker's log)")
            yield [m.mtmd_input_chunks_get(chunks, i) for i in range(m.mtmd_input_chunks_size(chunks))]
        finally:
            m.mtmd_input_chunks_free(chunks)

    @contextmanager
    def _decoded(self, image: bytes) -> Iterator[int]:
        """A bitmap handle of the image, valid inside the block. Raises BadRequest if it can't be decoded."""
        data = ctypes.cast(ctypes.c_char_p(image), ctypes.POINTER(ctypes.c_uint8))
        options = m.mtmd_helper_init_opt_default()
        found = m.mtmd_helper_bitmap_init_from_buf_wrapper(self.handle, data, len(image), False, options)
        if found.video_ctx:  # a build with ffmpeg tries to read a broken image as a film
            m.mtmd_helper_video_free(found.video_ctx)
        try:
            if not found.bitmap or found.video_ctx or m.mtmd_bitmap_is_audio(found.bitmap):
                raise BadRequest("an image can't be decoded; is it damaged?", param="messages")
            yield found.bitmap
        finally:
            if found.bitmap:
                m.mtmd_bitmap_free(found.bitmap)

    # ---- embeddings

    def encode(self, picture: Picture) -> list[NDArray[np.float32]]:
        """The embeddings of each of the picture's spans: float32, a row per token. Takes up to many seconds on a CPU.

        From one thread at a time. Raises BadRequest or InternalError.
        """
        if self.interruptible:
            self.interruptible.picture = picture
        place, image = images_in(picture.parts)[picture.number]
        sizes = {image: image_size(image) for _, image in images_in(picture.parts)}
        with _pieces(picture.parts, sizes) as pieces, self._decoded(image) as pixels:
            pieces[place] = pixels
            m.mtmd_bitmap_set_id(pixels, b"%d" % picture.number)
            with self._chunks(pieces) as chunks:
                return [self._encoded(chunk) for chunk in chunks if _belongs(chunk, picture.number)]

    def _encoded(self, chunk: int) -> NDArray[np.float32]:
        if m.mtmd_encode_chunk(self.handle, chunk):
            raise InternalError("llama.cpp could not encode an image (see the worker's log)")
        shape = (int(m.mtmd_input_chunk_get_n_tokens(chunk)), self._width)
        return np.ctypeslib.as_array(m.mtmd_get_output_embd(self.handle), shape=shape).copy()

    def decode(self, context: Context, entry: Entry[Sequence]) -> None:
        """Compute an image's cells from its embeddings, which are ready. Raises as `Context.decode` does."""
        image, slot = entry.image, entry.sequence.slot
        assert image is not None
        assert slot is not None
        assert image.picture.encoding is not None
        begin = entry.start - image.start
        rows = slice(begin, begin + entry.count)
        embeddings = image.picture.encoding.result()[image.index][rows]
        assert len(embeddings) == entry.count, f"{len(embeddings)} embeddings for {entry.count} cells"
        context.decode_embeddings(slot.id, embeddings, image.positions[:, rows], causal=image.causal)


class InterruptibleEncoding:
    """Cuts an encoding on the CPU into pieces: `between` is called after each, and a dropped picture ends it.

    ggml's scheduler asks for every node of the graph whether its callback wants to see it, computes up to the first
    node that it wants, and asks whether to continue (ggml-backend.cpp, ggml_backend_sched_compute_splits). Starting
    threads again for a piece of a few nodes costs little beside computing it.
    """

    def __init__(self, params: m.mtmd_context_params) -> None:
        self.between: Callable[[], None] = lambda: None
        self.picture: Picture | None = None
        self._asked = 0
        self._callback = c.ggml_backend_sched_eval_callback(self._on_node)
        params.cb_eval = self._callback

    def _on_node(self, _node: int, ask: bool, _user: object) -> bool:
        if ask:
            self._asked += 1
            return self._asked % _NODES_PER_PIECE == 0
        self.between()
        return self.picture is None or not self.picture.dropped


@contextmanager
def _pieces(parts: Seq[str | bytes], sizes: dict[bytes, tuple[int, int]]) -> Iterator[list[str | int]]:
    """`parts` with the images replaced by handles of bitmaps without pixels, valid inside the block. A bitmap's id is
    its image's number."""
    pieces: list[str | int] = [part if isinstance(part, str) else 0 for part in parts]
    blank: list[int] = []
    try:
        for number, (place, image) in enumerate(images_in(parts)):
            pieces[place] = handle = cast("int", m.mtmd_bitmap_init(*sizes[image], None))
            blank.append(handle)
            m.mtmd_bitmap_set_id(handle, b"%d" % number)
        yield pieces
    finally:
        for handle in blank:
            m.mtmd_bitmap_free(handle)


def _part(piece: str | int) -> m.mtmd_input_part:
    if isinstance(piece, int):
        return m.mtmd_input_part(bitmap=piece)
    data = piece.encode("utf-8", "surrogatepass")
    text = m.mtmd_input_text(text=data, text_len=len(data), add_special=False, parse_special=True)
    return m.mtmd_input_part(text=ctypes.pointer(text))


def _text_tokens(chunk: int) -> list[int]:
    count = ctypes.c_size_t()
    tokens = m.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
    return tokens[: count.value] if count.value else []


def _belongs(chunk: int, number: int) -> bool:
    return bool(m.mtmd_input_chunk_get_id(chunk) == b"%d" % number)


def _device(spec: LoadSpec) -> str | None:
    """The device that encodes: the model's first accelerator in this host, None for the CPU."""
    names = list(filter(is_accelerator, spec.devices or device_names()))
    return names[0] if names and spec.gpu_layers else None


def _params(spec: LoadSpec, device: str | None, threads: int) -> m.mtmd_context_params:
    params: m.mtmd_context_params = m.mtmd_context_params_default()
    params.use_gpu = device is not None
    if device:
        params.device = device_list([device])[0]  # type: ignore[assignment]  # the field is a void pointer
    params.n_threads = threads
    params.print_timings = False
    params.flash_attn_type = _FLASH_ATTENTION[spec.flash_attention]
    return params
