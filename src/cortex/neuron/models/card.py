"""From a catalogue entry to the model card that clients and gateways see. Pure but for a file's mtime."""

from __future__ import annotations

import msgspec

from cortex.neuron.catalog.entry import Entry
from cortex.neuron.models.load_plan import DEFAULT_PARALLEL, contexts
from cortex.wire.status import Capabilities, Limits, ModelCard
from cortex.wire.worker import Loaded

__all__ = ["card_of"]


def card_of(entry: Entry, loaded: Loaded | None = None) -> ModelCard:
    """The card by the GGUF's header and the profile; of a `loaded` model, with what the worker found."""
    profile, header = entry.profile, entry.header
    context = loaded.context if loaded else None
    expected = context or profile.limit.context or (contexts(entry)[0] if header else 0)
    return ModelCard(
        id=entry.id,
        limits=Limits(expected, profile.limit.input, profile.limit.output),
        capabilities=_detected(loaded, _capabilities(entry)) if loaded else _capabilities(entry),
        aliases=list(entry.aliases),
        architecture=header.architecture if header else "",
        quantisation=entry.quantisation,
        parameters=header.parameters if header else 0,
        size_bytes=header.size_bytes if header else 0,
        gguf_hash=header.hash if header else "",
        context_train=header.hyper("context_length") if header else 0,
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


def _detected(loaded: Loaded, guess: Capabilities) -> Capabilities:
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
    """A guess from the header, until the worker's chat probe has examined the loaded model."""
    header = entry.header
    if header is None:
        return Capabilities()
    template = header.text("tokenizer.chat_template")
    generates = entry.task == "generate"
    return Capabilities(
        chat=generates and bool(template or entry.profile.chat_template),
        completion=generates,
        embedding=entry.task == "embed",
        rerank=entry.task == "rerank",
        vision=generates and entry.mmproj is not None,
        tools="tools" in template,
        reasoning="think" in template,
        infill=any(key.endswith(("fim_pre_token_id", "prefix_token_id")) for key in header.values),
    )
