"""`GET /v1/models`: one object per model that clients of OpenAI, Anthropic, Codex and LM Studio all accept.

Their field names collide only in `type` and `capabilities`, so a model carries the fields of all of them. The list
around the models depends on the client. Sources: openai's Python SDK 3.54 (`types/model.py`), anthropic's 2.12
(`types/model_info.py`), Zed (crates/lmstudio/src/lmstudio.rs).
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

__all__ = ["ListStyle", "model_list", "model_object"]


@dataclass(frozen=True, slots=True)
class ListStyle:
    """The client's API: `anthropic` needs paging keys, `codex` a `models` key beside `data` (codex#22205)."""

    anthropic: bool = False
    codex: bool = False


class ModelObject(Struct, frozen=True):
    """One model. `id` … `owned_by` are OpenAI's fields; `display_name` … `max_tokens` Anthropic's; `publisher` …
    `capabilities` LM Studio's; the rest are cortex's own. `type` and `capabilities` have a different value for
    Anthropic clients."""

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
    data: list[ModelObject]
    models: list[str] | UnsetType = UNSET
    has_more: bool | UnsetType = UNSET
    first_id: str | UnsetType | None = UNSET
    last_id: str | UnsetType | None = UNSET


def model_list(models: Sequence[tuple[ModelStatus, list[str]]], style: ListStyle) -> bytes:
    """The list as JSON, always in one page. Each model comes with the names of the neurons that have it loaded."""
    data = [_model(status, neurons, style) for status, neurons in models]
    answer = ModelList(
        object="list",
        data=data,
        models=[] if style.codex else UNSET,
        has_more=False if style.anthropic else UNSET,
        first_id=(data[0].id if data else None) if style.anthropic else UNSET,
        last_id=(data[-1].id if data else None) if style.anthropic else UNSET,
    )
    return msgspec.json.encode(answer)


def model_object(status: ModelStatus, neurons: list[str], style: ListStyle) -> bytes:
    """One model as JSON."""
    return msgspec.json.encode(_model(status, neurons, style))


def _model(status: ModelStatus, neurons: list[str], style: ListStyle) -> ModelObject:
    card = status.card
    organisation, slash, name = card.id.partition("/")
    return ModelObject(
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
        capabilities=AnthropicCapabilities.of(card.capabilities) if style.anthropic else _names(card.capabilities),
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


def _names(capabilities: Capabilities) -> list[str]:
    """LM Studio's form of capabilities: a list of names, in which tools are "tool_use"."""
    names = {name: "tool_use" if name == "tools" else name for name in capabilities.__struct_fields__}
    return [shown for name, shown in names.items() if getattr(capabilities, name)]


def _lm_studio_state(state: ModelState) -> Literal["loaded", "loading", "not-loaded"]:
    match state:
        case "ready":
            return "loaded"
        case "loading":
            return "loading"
        case _:
            return "not-loaded"
