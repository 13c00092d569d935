"""GET /v1/models: one object per model that OpenAI's, Anthropic's, Codex's and LM Studio's readers all accept.

Hardly a field of theirs collides, so every model carries all of them; only the list around the models differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from cortex.dialects.anthropic.capabilities import AnthropicCapabilities
from cortex.wire.status import Capabilities, Cost, Limits, ModelState, ModelStatus

__all__ = ["ListStyle", "entry", "listing"]


@dataclass(frozen=True, slots=True)
class ListStyle:
    """Whose list it is: `anthropic` wants paging keys, `codex` a `models` key beside `data` (codex#22205)."""

    anthropic: bool = False
    codex: bool = False


class ModelEntry(Struct, frozen=True):
    """`id` … `owned_by` are OpenAI's; `display_name` … `max_tokens` Anthropic's; `publisher` … `capabilities` LM
    Studio's; the rest is ours. `type` and `capabilities` are the keys that two of them fill differently."""

    id: str
    object: str
    created: int
    owned_by: str
    type: Literal["model", "llm", "vlm", "embeddings"]
    display_name: str
    created_at: str
    lifecycle: str
    max_input_tokens: int
    max_tokens: int
    publisher: str
    arch: str
    compatibility_type: str
    quantization: str
    state: Literal["loaded", "loading", "not-loaded"]
    max_context_length: int
    loaded_context_length: int | UnsetType
    capabilities: list[str] | AnthropicCapabilities
    status: ModelState
    progress: float
    limits: Limits
    aliases: list[str]
    neurons: list[str]
    parameters: int
    size_bytes: int
    pinned: bool
    available: bool
    problem: str | UnsetType
    cost: Cost | UnsetType


class ModelList(Struct, frozen=True):
    object: str
    data: list[ModelEntry]
    models: list[str] | UnsetType = UNSET
    has_more: bool | UnsetType = UNSET
    first_id: str | UnsetType | None = UNSET
    last_id: str | UnsetType | None = UNSET


def listing(models: Sequence[tuple[ModelStatus, list[str]]], style: ListStyle) -> bytes:
    """The whole list as JSON; there is only ever one page."""
    data = [_entry(status, neurons, style) for status, neurons in models]
    answer = ModelList(
        object="list",
        data=data,
        models=[] if style.codex else UNSET,
        has_more=False if style.anthropic else UNSET,
        first_id=(data[0].id if data else None) if style.anthropic else UNSET,
        last_id=(data[-1].id if data else None) if style.anthropic else UNSET,
    )
    return msgspec.json.encode(answer)


def entry(status: ModelStatus, neurons: list[str], style: ListStyle) -> bytes:
    """One model as JSON."""
    return msgspec.json.encode(_entry(status, neurons, style))


def _entry(status: ModelStatus, neurons: list[str], style: ListStyle) -> ModelEntry:
    card = status.card
    organisation, slash, name = card.id.partition("/")
    return ModelEntry(
        id=card.id,
        object="model",
        created=card.created,
        owned_by=organisation if slash else "cortex",
        type="model" if style.anthropic else _kind(card.capabilities),
        display_name=name or card.id,
        created_at=datetime.fromtimestamp(card.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        lifecycle="active",
        max_input_tokens=card.limits.input or card.limits.context,
        max_tokens=card.limits.output or card.limits.context,
        publisher=organisation if slash else "cortex",
        arch=card.architecture,
        compatibility_type="gguf",
        quantization=card.quantisation,
        state=_lm_studio_state(status.state),
        max_context_length=card.limits.context,
        loaded_context_length=status.context or UNSET,
        capabilities=AnthropicCapabilities.of(card.capabilities) if style.anthropic else _words(card.capabilities),
        status=status.state,
        progress=status.progress,
        limits=card.limits,
        aliases=card.aliases,
        neurons=neurons,
        parameters=card.parameters,
        size_bytes=card.size_bytes,
        pinned=card.pinned or status.pinned,
        available=card.available,
        problem=card.problem or UNSET,
        cost=UNSET if card.cost is None else card.cost,
    )


def _kind(capabilities: Capabilities) -> Literal["llm", "vlm", "embeddings"]:
    if capabilities.embedding and not capabilities.chat:
        return "embeddings"
    return "vlm" if capabilities.vision else "llm"


def _words(capabilities: Capabilities) -> list[str]:
    """A list of words, since that is what LM Studio's readers parse; "tool_use" is their name for tools."""
    names = {name: "tool_use" if name == "tools" else name for name in capabilities.__struct_fields__}
    return [word for name, word in names.items() if getattr(capabilities, name)]


def _lm_studio_state(state: ModelState) -> Literal["loaded", "loading", "not-loaded"]:
    match state:
        case "ready":
            return "loaded"
        case "loading":
            return "loading"
        case _:
            return "not-loaded"
