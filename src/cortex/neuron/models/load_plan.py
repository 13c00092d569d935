"""From a catalogue entry to what is said of it, what it needs, and the order that a worker gets. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import msgspec

from cortex.config.profiles import Pooling
from cortex.config.settings import Config, parse_bytes
from cortex.neuron.catalog.scan import Entry
from cortex.neuron.memory.estimate import Shape, estimate, projector_bytes
from cortex.wire.probes import SizeReport
from cortex.wire.status import Capabilities, Limits, ModelCard
from cortex.wire.worker import Loaded, LoadSpec

__all__ = [
    "DEFAULT_CONTEXT",
    "DEFAULT_PARALLEL",
    "card_of",
    "contexts",
    "device_sets",
    "estimated_sizes",
    "refined_sizes",
    "shape_of",
    "spec_of",
]

Sizes = Callable[[Sequence[str]], list[int]]

DEFAULT_CONTEXT = 8192
DEFAULT_PARALLEL = 4
_LEAST_CONTEXT = 1024


def card_of(entry: Entry, loaded: Loaded | None = None) -> ModelCard:
    """The model as clients see it: by its header, and by what the worker found once it is loaded."""
    profile, header = entry.profile, entry.header
    context = loaded.context if loaded else None
    train = header.hyper("context_length") if header else 0
    promised = context or profile.limit.context or (contexts(entry)[0] if header else 0)
    return ModelCard(
        id=entry.id,
        limits=Limits(promised, profile.limit.input, profile.limit.output),
        capabilities=_found(loaded, _capabilities(entry)) if loaded else _capabilities(entry),
        aliases=list(entry.aliases),
        architecture=header.architecture if header else "",
        quantisation=entry.quantisation,
        parameters=header.parameters if header else 0,
        size_bytes=header.size_bytes if header else 0,
        gguf_hash=header.hash if header else "",
        context_train=train,
        parallel=profile.parallel or DEFAULT_PARALLEL,
        created=int(entry.path.stat().st_mtime) if entry.path and entry.path.exists() else 0,
        cost=profile.cost,
        pinned=profile.pinned,
        pinned_on=profile.pinned_on,
        residency_priority=profile.residency_priority,
        min_devices=profile.min_devices,
        min_device_bytes=profile.min_device_vram_mb * 1024 * 1024,
        idle_ttl_s=profile.idle_ttl_s,
        replicas_min=profile.replicas.min,
        replicas_max=profile.replicas.max,
        available=not entry.problem,
        problem=entry.problem,
    )


def _found(loaded: Loaded, guess: Capabilities) -> Capabilities:
    return msgspec.structs.replace(
        guess,
        tools=loaded.tools,
        reasoning=loaded.reasoning,
        vision=loaded.vision,
        embedding=loaded.embedding,
        rerank=loaded.rerank,
        infill=loaded.infill,
    )


def _capabilities(entry: Entry) -> Capabilities:
    """A guess by the header; what the worker's probe found replaces it once loaded."""
    header, profile = entry.header, entry.profile
    if header is None:
        return Capabilities()
    pooling = header.hyper("pooling_type")
    rerank = profile.pooling == "rank" or pooling == 4
    embedding = not rerank and (profile.embedding or bool(pooling) or not header.hyper("attention.causal", 1))
    template = header.text("tokenizer.chat_template")
    generates = not (embedding or rerank)
    return Capabilities(
        chat=generates and bool(template or profile.chat_template),
        completion=generates,
        embedding=embedding,
        rerank=rerank,
        vision=generates and entry.mmproj is not None,
        tools="tools" in template,
        reasoning="think" in template,
        infill=any(key.endswith(("fim_pre_token_id", "prefix_token_id")) for key in header.values),
    )


def contexts(entry: Entry) -> list[int]:
    """The contexts to try, best first: one where the profile names it, else from the most downwards by halves.

    `"auto"` starts at what the model was trained for, no word at DEFAULT_CONTEXT.
    """
    assert entry.header is not None
    train = entry.header.hyper("context_length") or DEFAULT_CONTEXT
    wanted = entry.profile.context
    if isinstance(wanted, int):
        return [wanted]
    best = train if wanted == "auto" else min(train, DEFAULT_CONTEXT)
    found = [best]
    while found[-1] // 2 >= _LEAST_CONTEXT:
        found.append(found[-1] // 2)
    return found


def shape_of(entry: Entry, context: int) -> Shape:
    profile = entry.profile
    parallel = profile.parallel or DEFAULT_PARALLEL
    ubatch = min(profile.ubatch, profile.batch)
    cells = profile.kv_cells or context * parallel
    if _makes_vectors(entry):  # an input is attended to as a whole: one batch, one pool of its size
        ubatch, cells = max(context, ubatch), max(profile.kv_cells or 0, context)
    return Shape(
        kv_cells=cells,
        parallel=parallel,
        ubatch=ubatch,
        cache_type_k=profile.cache_type_k,
        cache_type_v=profile.cache_type_v,
        flash_attention=profile.flash_attention != "off",
    )


def _makes_vectors(entry: Entry) -> bool:
    capabilities = _capabilities(entry)
    return capabilities.embedding or capabilities.rerank


def _pooling(entry: Entry) -> Pooling | None:
    """The profile's; None for the file's own. A file of a model that makes text has none, and llama.cpp then no vector
    for a whole input: it gets the mean of its tokens'."""
    if entry.profile.pooling is not None or not _makes_vectors(entry):
        return entry.profile.pooling
    return None if entry.header is not None and entry.header.hyper("pooling_type") else "mean"


def device_sets(
    entry: Entry, sizes: Sizes, budgets: Mapping[str, int], free: Mapping[str, int], wanted: Sequence[str]
) -> list[dict[str, int]]:
    """The device sets that may take the model with the bytes needed on each, emptiest devices first.

    `sizes` gives the bytes on each device of a set; `budgets` and `free` are bytes by device id; `wanted` is the
    caller's choice, which beats the profile's. A choice that names a device which isn't here has no sizes.
    """
    eligible = [name for name in budgets if budgets[name] >= entry.profile.min_device_vram_mb * 1024 * 1024]
    chosen = list(wanted) or _named(entry, list(budgets))
    if not budgets.keys() >= set(chosen):
        return [dict.fromkeys(chosen, 0)]
    if chosen:
        groups = [tuple(chosen)]
    else:
        ordered = sorted(eligible, key=lambda name: (-free.get(name, 0), name))
        groups = list(combinations(ordered, _device_count(entry)))[:64]
    return [dict(zip(group, sizes(group), strict=True)) for group in groups]


def _named(entry: Entry, known: list[str]) -> list[str]:
    """The profile's `devices`, by position or id."""
    devices = entry.profile.devices
    if not isinstance(devices, list):
        return []
    return [known[item] if isinstance(item, int) and item < len(known) else str(item) for item in devices]


def _device_count(entry: Entry) -> int:
    devices = entry.profile.devices
    return max(devices if isinstance(devices, int) else 1, entry.profile.min_devices)


def estimated_sizes(entry: Entry, context: int, group: Sequence[str]) -> list[int]:
    """By the GGUF alone, for each device of `group`, then for each RPC endpoint of the profile."""
    first, *others = _text_sizes(entry, context, group)
    return [first + _projector_size(entry), *others]


def _projector_size(entry: Entry) -> int:
    """A projector is never split: the first device has it."""
    return projector_bytes(entry.projector) if entry.projector else 0


def _text_sizes(entry: Entry, context: int, group: Sequence[str]) -> list[int]:
    assert entry.header is not None
    sizes, on_cpu = estimate(entry.header, shape_of(entry, context)), group[0].startswith("cpu")
    rpc = entry.profile.rpc
    if rpc and on_cpu:  # the layers are elsewhere
        here = sizes.input_bytes + sizes.logits_bytes + sizes.compute_bytes
        return [here, *[0] * (len(group) - 1), *sizes.split(_shares(entry, len(rpc)))]
    if len(group) + len(rpc) > 1:
        return sizes.split(_shares(entry, len(group) + len(rpc)))
    return [sizes.total if on_cpu else sizes.offloaded]


def refined_sizes(
    entry: Entry, context: int, group: Sequence[str], names: Sequence[str], report: SizeReport
) -> list[int]:
    """As `estimated_sizes`, with the caches and compute buffers of a dry run. `names` are ggml's, for `group`.

    A dry run tells a cache's whole size: it is shared out as the header has it.
    """
    assert entry.header is not None
    guess = estimate(entry.header, shape_of(entry, context))
    whole = sum(guess.layer_cache) or 1
    cache = [size * report.cache // whole for size in guess.layer_cache]
    sizes = replace(guess, layer_cache=cache, compute_bytes=0, logits_bytes=report.output)
    if names[:1] == ["CPU"]:
        return [sizes.total + sum(report.compute.values()) + _projector_size(entry)]
    held = sizes.split(_shares(entry, len(group))) if len(group) > 1 else [sizes.offloaded]
    held[0] += _projector_size(entry)
    return [size + report.compute.get(name, guess.compute_bytes) for size, name in zip(held, names, strict=True)]


def _shares(entry: Entry, parts: int) -> list[float]:
    """`tensor_split`, one number a device; a list that is too short or too long is llama.cpp's to read."""
    given = entry.profile.tensor_split[:parts]
    return given + [0.0] * (parts - len(given)) if any(given) else [1.0] * parts


def spec_of(entry: Entry, context: int, devices: Sequence[str], config: Config) -> LoadSpec:
    """The worker's order. `devices` are ggml's names in split order, empty for a worker's only one."""
    profile = entry.profile
    assert entry.path is not None
    faults = config.faults
    if faults is not None and faults.models and entry.id not in faults.models:
        faults = None
    return LoadSpec(
        model=entry.id,
        path=str(entry.path),
        context=context,
        parallel=profile.parallel or DEFAULT_PARALLEL,
        kv_cells=profile.kv_cells,
        mmproj=str(entry.mmproj) if entry.mmproj else None,
        split_mode=profile.split_mode if len(devices) + len(profile.rpc) > 1 else "none",
        devices=list(devices),
        tensor_split=profile.tensor_split,
        rpc=profile.rpc,
        gpu_layers=profile.gpu_layers,
        batch=profile.batch,
        ubatch=profile.ubatch,
        threads=profile.threads or config.neuron.threads,
        cache_type_k=profile.cache_type_k,
        cache_type_v=profile.cache_type_v,
        flash_attention=profile.flash_attention,
        mmap=profile.mmap,
        mlock=profile.mlock,
        embedding=_makes_vectors(entry),
        pooling=_pooling(entry),
        sampling=profile.sampling,
        host_cache_bytes=parse_bytes(config.neuron.host_cache if profile.host_cache is None else profile.host_cache),
        isolate_keys=profile.isolate_keys,
        prompt_lookup=profile.prompt_lookup,
        backend_sampling=profile.backend_sampling,
        chat_template=profile.chat_template,
        template_kwargs=profile.template_kwargs,
        reasoning_format=profile.reasoning_format,
        tool_format=profile.tool_format,
        special_tokens_in_content=profile.special_tokens_in_content,
        limit_output=profile.limit.output,
        limit_input=profile.limit.input,
        parity_file=str(config.neuron.state_path / "parity" / f"{entry.header.hash}.json") if entry.header else None,
        faults=msgspec.to_builtins(faults) if faults else {},
    )
