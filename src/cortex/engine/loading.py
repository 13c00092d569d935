"""Loads a model and makes its engine. Runs in a thread of its own per load: loading takes seconds to minutes."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import msgspec

from cortex.engine.chat.model import ChatModel
from cortex.engine.embedding_engine import EmbeddingEngine, EmbeddingPreparer
from cortex.engine.engine import Engine
from cortex.engine.grammar.compiler import ConstraintCompiler, spec_for_format
from cortex.engine.kv.host_store import HostStore
from cortex.engine.kv.pool import KvPool
from cortex.engine.kv.slot import Reuse
from cortex.engine.llama.context import Context
from cortex.engine.llama.context_shape import ContextShape, context_shape, input_length
from cortex.engine.llama.library import LogTap, device_names, is_accelerator
from cortex.engine.llama.model import Model
from cortex.engine.llama.mtmd import Projector
from cortex.engine.llama.tensor_split_check import load_checked
from cortex.engine.request.preparer import Preparer, TokenLimits
from cortex.engine.sampling.params import from_metadata
from cortex.engine.sampling.prompt_lookup import PromptLookup
from cortex.engine.scheduling.step_budget import StepBudget
from cortex.engine.vision.encoder import Vision
from cortex.errors import BadRequest, ModelLoadFailed, UnsupportedValue
from cortex.wire.inference import InferenceRequest, Request
from cortex.wire.worker import Emission, EngineModelStats, Loaded, LoadSpec, ProbeReport

__all__ = ["LoadedModel", "ModelEngine", "load", "return_free_pages"]

_MASK_CHECK_S = 2.3e-9
"""Seconds that llama.cpp's CPU attention takes per head, token and masked cell. From steps of 8 streams with 0, 4,096
and 16,384 idle cells in the pool (SmolLM2 Q4_1, two cores: docs/explanation/performance.md, "What it costs")."""
_STALL_S = 1.4
"""How long a step may take when a prompt arrives beside running streams: set by the inter-token p99 of 4 streams while
2k prompts arrive, against those prompts' time to first token (docs/explanation/performance.md)."""


class ModelEngine(Protocol):
    """What the worker's loop steps: an Engine or an EmbeddingEngine, whose docstrings say more."""

    @property
    def busy(self) -> bool: ...
    def cancel(self, request_id: str) -> None: ...
    def abort_prefill_of(self, request_id: str) -> None: ...
    def step(self) -> list[Emission]: ...
    def canary(self) -> None: ...
    def stats(self) -> EngineModelStats: ...
    def save_state(self, directory: Path) -> tuple[int, int]: ...
    def restore_state(self, directory: Path) -> tuple[int, int]: ...
    def close(self) -> list[Emission]: ...


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A loaded model and its engine.

    `prepare` may run in any thread; it raises CortexError for a request that can't be served, else returns a function
    that submits the request to the engine, to be called with its arrival time in the loop's thread.
    """

    spec: LoadSpec
    engine: ModelEngine
    model: Model
    notice: Loaded
    prepare: Callable[[Request], Callable[[float], None]]
    probe: ProbeReport
    vision: Vision | None = None

    def free(self, then: Callable[[], None]) -> None:
        """Free the weights, then call `then`; after `engine.close()`.

        Where an image is still being encoded, both happen in its thread, after it: it uses the vocabulary.
        """
        if self.vision:
            self.vision.free(lambda: self._free(then))
        else:
            self._free(then)

    def _free(self, then: Callable[[], None]) -> None:
        self.model.close()
        return_free_pages()
        then()


def load(spec: LoadSpec, tap: LogTap, on_progress: Callable[[float], None], default_threads: int | None) -> LoadedModel:
    """The model of `spec`, ready to be stepped. `on_progress` gets fractions from 0 to 1, in this thread.

    Raises ModelLoadFailed with llama.cpp's reason, or NoRoom; whatever was allocated is freed then.
    """
    began = time.monotonic()
    if not Path(spec.path).is_file():
        raise ModelLoadFailed(f"{spec.path}: no such file")
    model, spec, note = load_checked(spec, tap, on_progress)
    try:
        make = _embedding if spec.embedding else _generating
        made = make(spec, model, tap, began, default_threads)
        return replace(made, notice=msgspec.structs.replace(made.notice, note=note))
    except BadRequest as error:  # the profile's tool format or chat template is invalid
        model.close()
        raise ModelLoadFailed(f"{spec.model}: {error.message}") from error
    except BaseException:
        model.close()
        raise


def _template_file(path: str | None) -> str | None:
    """The text of the profile's chat template. Raises ModelLoadFailed naming the file."""
    try:
        return Path(path).read_text() if path is not None else None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelLoadFailed(f"chat_template {path}: {error}") from error


def _generating(spec: LoadSpec, model: Model, tap: LogTap, began: float, threads: int | None) -> LoadedModel:
    if not model.has_decoder:
        raise ModelLoadFailed(f"{spec.model} is an encoder: it makes embeddings, not text; set embedding = true for it")
    chat = _chat(spec, model)
    model.vocab.add_ends(chat.end_tokens)
    compiler = ConstraintCompiler(model.vocab)
    shape = context_shape(spec, model, threads)
    vision = _vision(spec, model, tap, shape)
    with ExitStack() as undo:
        if vision:
            undo.callback(vision.projector.close)
        context = Context(model, spec, shape, tap)
        undo.pop_all()
    reuse = context.reuse
    engine = Engine(
        spec.model,
        model.vocab,
        context,
        KvPool(context.cells, shape.slots, reuse, isolate=spec.isolate_keys),
        HostStore(spec.host_cache_bytes, isolate=spec.isolate_keys),
        parallel=spec.parallel,
        budget=StepBudget(ubatch=context.shape.ubatch, stall_s=_STALL_S, scan_s=_scan_s(spec, model, shape.threads)),
        lookup=PromptLookup(enabled=spec.prompt_lookup and reuse is Reuse.PARTIAL),
        vision=vision,
    )
    limits = TokenLimits(min(spec.context, context.cells), spec.limit_input, spec.limit_output)
    preparer = Preparer(
        model.vocab,
        limits,
        chat=chat,
        spec_for_format=spec_for_format,
        compile_constraint=compiler.compile,
        profile=spec.sampling,
        metadata=from_metadata(model.metadata),
        lay_out=vision.projector.layout if vision else None,
    )

    def prepare(request: Request) -> Callable[[float], None]:
        if not isinstance(request, InferenceRequest):
            raise UnsupportedValue(f"{spec.model} makes text: load it with embedding = true for vectors", param="model")
        prepared = preparer.prepare(request)
        return lambda arrival_s: engine.submit(prepared, arrival_s)

    notice = Loaded(
        model=spec.model,
        context=limits.context,
        kv_cells=context.cells,
        parallel=spec.parallel,
        seconds=time.monotonic() - began,
        split_mode=spec.split_mode,
        bytes_by_device=tap.buffers(),
        tools=chat.supports_tools,
        reasoning=chat.supports_reasoning,
        vision=vision is not None,
        infill=model.vocab.fim is not None,
    )
    return LoadedModel(spec, engine, model, notice, prepare, _probe(spec, chat, vision), vision)


def _scan_s(spec: LoadSpec, model: Model, threads: int) -> float:
    """Seconds that a step on the CPU takes longer per sequence and masked cell; 0 on GPUs, where it isn't known."""
    accelerated = spec.gpu_layers and any(map(is_accelerator, device_names()))
    return 0.0 if accelerated or spec.rpc else model.attention_heads * _MASK_CHECK_S / threads


def _chat(spec: LoadSpec, model: Model) -> ChatModel:
    return ChatModel.from_gguf(
        model.template,
        model.named_templates,
        model.vocab,
        override=_template_file(spec.chat_template),
        template_kwargs=spec.template_kwargs,
        reasoning_format=spec.reasoning_format,
        tool_format=spec.tool_format,
        special_tokens_in_content=spec.special_tokens_in_content,
        vision=spec.mmproj is not None,
    )


def _probe(spec: LoadSpec, chat: ChatModel, vision: Vision | None) -> ProbeReport:
    report = chat.report(spec.model)
    if vision:
        report.evidence.append(vision.projector.description)
    return report


def _vision(spec: LoadSpec, model: Model, tap: LogTap, shape: ContextShape) -> Vision | None:
    if spec.mmproj is None:
        return None
    return Vision(Projector.load(spec, model, tap, threads=shape.threads_batch, ubatch=shape.ubatch))


def _embedding(spec: LoadSpec, model: Model, tap: LogTap, began: float, threads: int | None) -> LoadedModel:
    length = input_length(spec, model)
    context = Context(model, spec, context_shape(spec, model, threads), tap)
    engine = EmbeddingEngine(spec.model, model, context)
    template = model.named_templates.get("rerank")
    preparer = EmbeddingPreparer(spec.model, model.vocab, length, rank=engine.ranks, template=template)

    def prepare(request: Request) -> Callable[[float], None]:
        prepared = preparer.prepare(request)
        return lambda arrival_s: engine.submit(prepared, arrival_s)

    notice = Loaded(
        model=spec.model,
        context=length,
        kv_cells=context.cells,
        parallel=spec.parallel,
        seconds=time.monotonic() - began,
        split_mode=spec.split_mode,
        bytes_by_device=tap.buffers(),
        embedding=not engine.ranks,
        rerank=engine.ranks,
    )
    return LoadedModel(spec, engine, model, notice, prepare, ProbeReport(spec.model))


def _find_malloc_trim() -> Callable[[int], int]:
    """malloc_trim(3) is in glibc only; musl and macOS return pages by themselves."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except AttributeError:
        return lambda _pad: 0
    trim.argtypes, trim.restype = (ctypes.c_size_t,), ctypes.c_int
    return lambda pad: int(trim(pad))


_malloc_trim = _find_malloc_trim()


def return_free_pages() -> None:
    """Return free pages of the C heap to the system. Every load runs in a thread of its own, which glibc gives an arena
    of its own; what is freed there would stay with the process, tens of megabytes on a machine with many cores."""
    _malloc_trim(0)
