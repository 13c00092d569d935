"""From a catalogue entry to the contexts and device sets to try, their bytes, and the worker's LoadSpec. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec

from cortex.config.profiles import Pooling
from cortex.config.settings import Config, parse_bytes
from cortex.neuron.catalog.entry import Entry
from cortex.neuron.memory.estimate import Shape, estimate, projector_bytes
from cortex.placement.device_sets import device_groups, large_enough
from cortex.placement.facts import DeviceSet, NeuronMemory
from cortex.wire.reports import MemoryPlan
from cortex.wire.worker import LoadSpec

__all__ = [
    "DEFAULT_CONTEXT",
    "DEFAULT_PARALLEL",
    "contexts",
    "device_sets",
    "estimated_sizes",
    "refined_sizes",
    "shape_of",
    "spec_of",
]

Sizes = Callable[[Sequence[str]], list[int]]
"""Device ids → bytes needed on each."""

DEFAULT_CONTEXT, DEFAULT_PARALLEL = 8192, 4
"""Tokens per request and sequences decoded together, where the profile has none."""
_MIN_CONTEXT = 1024
"""Tokens at which the halving of a context that doesn't fit ends."""


def contexts(entry: Entry) -> list[int]:
    """The contexts (tokens) to try, largest first: the profile's number alone, else halving down to _MIN_CONTEXT.

    `"auto"` starts at the training context, an unset context at the smaller of that and DEFAULT_CONTEXT.
    """
    assert entry.header is not None
    train = entry.header.hyper("context_length") or DEFAULT_CONTEXT
    wanted = entry.profile.context
    if isinstance(wanted, int):
        return [wanted]
    best = train if wanted == "auto" else min(train, DEFAULT_CONTEXT)
    found = [best]
    while found[-1] // 2 >= _MIN_CONTEXT:
        found.append(found[-1] // 2)
    return found


def shape_of(entry: Entry, context: int) -> Shape:
    """The shape of the context in which the engine would serve `entry` with `context` tokens per request."""
    profile = entry.profile
    parallel = profile.parallel or DEFAULT_PARALLEL
    ubatch = min(profile.ubatch, profile.batch)
    cells = profile.kv_cells or context * parallel
    if entry.task != "generate":  # an input is attended to as a whole: one ubatch, and a pool of its size
        ubatch, cells = max(context, ubatch), max(profile.kv_cells or 0, context)
    return Shape(
        kv_cells=cells,
        parallel=parallel,
        ubatch=ubatch,
        cache_type_k=profile.cache_type_k,
        cache_type_v=profile.cache_type_v,
        flash_attention=profile.flash_attention != "off",
    )


def _pooling(entry: Entry) -> Pooling | None:
    """The profile's pooling; None for that of the file. The file of a model that generates text has none, and llama.cpp
    without pooling returns no vector per input: used for embeddings, such a model gets "mean"."""
    if entry.profile.pooling is not None or entry.task == "generate":
        return entry.profile.pooling
    return None if entry.header is not None and entry.header.hyper("pooling_type") else "mean"


def device_sets(entry: Entry, sizes: Sizes, memory: NeuronMemory, wanted: Sequence[str]) -> list[DeviceSet]:
    """The device sets that the model may be loaded on, with the bytes needed on each device; most free memory first.

    `wanted` are the device ids of the order, which take precedence over the profile's. A set with a device that isn't
    here has sizes of 0.
    """
    free, floor = memory.free_bytes(), entry.profile.min_device_vram_mb * 1024 * 1024
    chosen = list(wanted) or _named(entry, list(free))
    if not free.keys() >= set(chosen):
        return [dict.fromkeys(chosen, 0)]
    able = {device.id: free[device.id] for device in memory.devices if large_enough(device, floor)}
    groups = [tuple(chosen)] if chosen else device_groups(able, _device_count(entry))
    return [dict(zip(group, sizes(group), strict=True)) for group in groups]


def _named(entry: Entry, known: list[str]) -> list[str]:
    """Device ids by the profile's `devices`, which has positions or ids; empty where it is a count."""
    devices = entry.profile.devices
    if not isinstance(devices, list):
        return []
    return [known[item] if isinstance(item, int) and item < len(known) else str(item) for item in devices]


def _device_count(entry: Entry) -> int:
    devices = entry.profile.devices
    return max(devices if isinstance(devices, int) else 1, entry.profile.min_devices)


def estimated_sizes(entry: Entry, context: int, group: Sequence[str]) -> list[int]:
    """Bytes by the GGUF's header for each device of `group`, then for each RPC endpoint of the profile."""
    first, *others = _text_sizes(entry, context, group)
    return [first + _projector_size(entry), *others]


def _projector_size(entry: Entry) -> int:
    """Bytes on the first device: llama.cpp never splits a projector."""
    return projector_bytes(entry.projector) if entry.projector else 0


def _text_sizes(entry: Entry, context: int, group: Sequence[str]) -> list[int]:
    assert entry.header is not None
    sizes, on_cpu = estimate(entry.header, shape_of(entry, context)), group[0].startswith("cpu")
    rpc = entry.profile.rpc
    if rpc and on_cpu:  # all layers are on the endpoints
        here = sizes.input_bytes + sizes.logits_bytes + sizes.compute_bytes
        return [here, *[0] * (len(group) - 1), *sizes.split(_shares(entry, len(rpc)))]
    if len(group) + len(rpc) > 1:
        return sizes.split(_shares(entry, len(group) + len(rpc)))
    return [sizes.total if on_cpu else sizes.offloaded]


def refined_sizes(
    entry: Entry, context: int, group: Sequence[str], names: Sequence[str], plan: MemoryPlan
) -> list[int]:
    """As `estimated_sizes`, with the caches and compute buffers of a dry run. `names` are ggml's names for `group`.

    `plan.cache` is for all layers together: it is divided among them in proportion to the estimate.
    """
    assert entry.header is not None
    guess = estimate(entry.header, shape_of(entry, context))
    whole = sum(guess.layer_cache) or 1
    cache = [size * plan.cache // whole for size in guess.layer_cache]
    sizes = replace(guess, layer_cache=cache, compute_bytes=0, logits_bytes=plan.output)
    if names[:1] == ["CPU"]:
        return [sizes.total + sum(plan.compute.values()) + _projector_size(entry)]
    held = sizes.split(_shares(entry, len(group))) if len(group) > 1 else [sizes.offloaded]
    held[0] += _projector_size(entry)
    return [size + plan.compute.get(name, guess.compute_bytes) for size, name in zip(held, names, strict=True)]


def _shares(entry: Entry, parts: int) -> list[float]:
    """The profile's `tensor_split`, cut or filled with zeros to one share per part as llama.cpp does; equal shares
    without one."""
    given = entry.profile.tensor_split[:parts]
    return given + [0.0] * (parts - len(given)) if any(given) else [1.0] * parts


def spec_of(entry: Entry, context: int, devices: Sequence[str], config: Config) -> LoadSpec:
    """What the worker is sent. `devices` are ggml's names in split order, empty for the only one that it sees."""
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
        embedding=entry.task != "generate",
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
