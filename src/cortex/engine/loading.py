"""A LoadSpec becomes a model that can be stepped. Runs in a thread of its own: loading takes seconds to minutes."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec
import psutil

from cortex.engine.chat.model import ChatModel
from cortex.engine.embedding_engine import EmbeddingEngine, EmbeddingPreparer, VectorJob
from cortex.engine.engine import Engine
from cortex.engine.grammar.compiler import ConstraintCompiler, spec_for_format
from cortex.engine.kv.host_store import HostStore
from cortex.engine.kv.pool import KvPool, Reuse
from cortex.engine.llama.context import Context, ContextShape
from cortex.engine.llama.library import LogTap, device_names, is_accelerator
from cortex.engine.llama.model import Model
from cortex.engine.llama.mtmd import Projector
from cortex.engine.llama.tensor_split_check import load_checked
from cortex.engine.request.output import Job
from cortex.engine.request.preparer import Limits, Preparer
from cortex.engine.sampling.params import from_metadata
from cortex.engine.sampling.prompt_lookup import PromptLookup
from cortex.engine.scheduling.step_budget import StepBudget
from cortex.engine.vision.encoder import Vision
from cortex.errors import BadRequest, ModelLoadFailed, UnsupportedValue
from cortex.wire.inference import InferenceRequest, Request
from cortex.wire.worker import Emission, EngineModelStats, Loaded, LoadSpec, ProbeReport

__all__ = ["LoadedModel", "ModelEngine", "context_shape", "load"]

_CACHED_SLOTS = 96
"""Sequence ids beyond the running ones, for prefixes of finished requests. In a unified pool an id costs nothing."""
_MOST_SLOTS = 255
"""llama.cpp's limit of 256, less the canary's."""
_MOST_INPUTS = 64
"""Inputs that are embedded in one batch."""
_MASK_CHECK_S = 2.3e-9
"""What llama.cpp's CPU attention takes to find that one head of one token may not look at a cell."""
_STALL_S = 1.4
"""How long a step may take when a prompt arrives beside running streams; see docs/explanation/performance.md."""


class ModelEngine(Protocol):
    """What the worker's loop turns: an Engine or an EmbeddingEngine."""

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
    """A loaded model. `prepare` may run in any thread and returns what puts the request into the engine, to be called
    with its arrival time in the loop's thread."""

    spec: LoadSpec
    engine: ModelEngine
    model: Model
    loaded: Loaded
    prepare: Callable[[Request], Callable[[float], None]]
    probe: ProbeReport
    vision: Vision | None = None

    def free(self, then: Callable[[], None]) -> None:
        """After `engine.close()`: give the weights back, then do `then`. An image that is being encoded is waited for
        elsewhere: it needs the vocabulary."""
        if self.vision:
            self.vision.free(lambda: self._free(then))
        else:
            self._free(then)

    def _free(self, then: Callable[[], None]) -> None:
        self.model.close()
        then()


def load(spec: LoadSpec, tap: LogTap, on_progress: Callable[[float], None], default_threads: int | None) -> LoadedModel:
    """Raises ModelLoadFailed with llama.cpp's reason; whatever was allocated is freed then."""
    began = time.monotonic()
    if not Path(spec.path).is_file():
        raise ModelLoadFailed(f"{spec.path}: no such file")
    model, spec, note = load_checked(spec, tap, on_progress)
    try:
        host = _embedding if spec.embedding else _generating
        hosted = host(spec, model, tap, began, default_threads)
        return replace(hosted, loaded=msgspec.structs.replace(hosted.loaded, note=note))
    except BadRequest as error:  # a profile's format or template that isn't one
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
        pace=StepBudget(ubatch=context.shape.ubatch, stall_s=_STALL_S, scan_s=_scan_s(spec, model, shape.threads)),
        lookup=PromptLookup(enabled=spec.prompt_lookup and reuse is Reuse.PARTIAL),
        vision=vision,
    )
    limits = Limits(min(spec.context, context.cells), spec.limit_input, spec.limit_output)
    preparer = Preparer(
        model.vocab,
        limits,
        chat=chat,
        spec_for_format=partial(spec_for_format, vocabulary=model.vocab),
        compile_constraint=compiler.compile,
        profile=spec.sampling,
        metadata=from_metadata(model.metadata),
        see=vision.projector.layout if vision else None,
    )

    def prepare(request: Request) -> Callable[[float], None]:
        if not isinstance(request, InferenceRequest):
            raise UnsupportedValue(f"{spec.model} makes text: load it with embedding = true for vectors", param="model")
        job: Job = preparer.prepare(request)
        return lambda arrival_s: engine.submit(job, arrival_s)

    loaded = Loaded(
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
    return LoadedModel(spec, engine, model, loaded, prepare, _probe(spec, chat, vision), vision)


def _scan_s(spec: LoadSpec, model: Model, threads: int) -> float:
    """Seconds that a step on the CPU loses for every sequence and every cell that isn't its own. Not known on GPUs."""
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
    length = _input_length(spec, model)
    context = Context(model, spec, context_shape(spec, model, threads), tap)
    engine = EmbeddingEngine(spec.model, model, context)
    preparer = EmbeddingPreparer(spec.model, model.vocab, length, rank=engine.ranks)

    def prepare(request: Request) -> Callable[[float], None]:
        job: VectorJob = preparer.prepare(request)
        return lambda arrival_s: engine.submit(job, arrival_s)

    loaded = Loaded(
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
    return LoadedModel(spec, engine, model, loaded, prepare, ProbeReport(spec.model))


def _extra_slots(spec: LoadSpec, model: Model) -> int:
    """A recurrent model keeps a whole state per sequence id, so there each one costs memory."""
    return min(spec.parallel, 4) if model.recurrent or model.hybrid else _CACHED_SLOTS


def context_shape(spec: LoadSpec, model: Model, threads: int | None) -> ContextShape:
    """The context that `load` makes for `spec`, which a dry run plans, too. `threads`: where the profile says none."""
    if spec.embedding:
        return _vector_shape(spec, model, threads)
    cells = spec.kv_cells or spec.context * spec.parallel
    slots = min(_MOST_SLOTS, spec.parallel + _extra_slots(spec, model))
    batch = max(spec.batch, spec.ubatch, 16 * spec.parallel)
    return ContextShape(cells, slots, batch, min(spec.ubatch, batch), *_threads(spec, threads))


def _vector_shape(spec: LoadSpec, model: Model, threads: int | None) -> ContextShape:
    """An input is attended to as a whole, so it must fit one physical batch.

    llama.cpp reserves for a batch rounded up to a multiple of its sequence ids, counts the outputs before rounding,
    and asserts that both agree: so the ids (ours and the canary's) are a power of two that divides the batch.
    """
    ids = min(_MOST_INPUTS, 1 << max(1, spec.parallel).bit_length())
    batch = -(-max(_input_length(spec, model), spec.ubatch) // _MOST_INPUTS) * _MOST_INPUTS
    return ContextShape(max(spec.kv_cells or 0, batch), ids - 1, batch, batch, *_threads(spec, threads))


def _input_length(spec: LoadSpec, model: Model) -> int:
    return min(spec.context, model.context_train or spec.context)


def _threads(spec: LoadSpec, default: int | None) -> tuple[int, int]:
    """Physical cores unless told: a second thread on a core only waits for the first."""
    threads = spec.threads or default or psutil.cpu_count(logical=False) or 1
    return threads, spec.threads_batch or threads
