"""One model of this host's catalogue, and the catalogue: what a scan finds, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cortex.config.profiles import Profile
from cortex.neuron.catalog.gguf_header import GGUFHeader

__all__ = ["Catalog", "Entry"]

_POOLING_RANK = 4
"""`LLAMA_POOLING_TYPE_RANK` of llama.h, as GGUF's pooling_type has it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One model. `header` is the first shard's with every shard's tensors; None when it can't be read, for the reason
    in `problem`, or isn't downloaded yet.

    `files` holds every shard in order; llama.cpp is given the first. `mmproj` is the vision projector's file and
    `projector` its header. `repo` is set for models of the Hugging Face Hub.
    """

    id: str
    profile: Profile
    files: tuple[Path, ...] = ()
    header: GGUFHeader | None = None
    mmproj: Path | None = None
    projector: GGUFHeader | None = None
    repo: str | None = None
    problem: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def path(self) -> Path | None:
        return self.files[0] if self.files else None

    @property
    def quantisation(self) -> str:
        return self.header.quantisation if self.header else ""

    @property
    def task(self) -> Literal["generate", "embed", "rerank"]:
        """By the profile, else by the header's pooling type and attention; "generate" while there is no header."""
        if self.header is None:
            return "generate"
        pooling = self.header.hyper("pooling_type")
        if self.profile.pooling == "rank" or pooling == _POOLING_RANK:
            return "rerank"
        if self.profile.embedding or pooling or not self.header.hyper("attention.causal", 1):
            return "embed"
        return "generate"


@dataclass(frozen=True)
class Catalog:
    """The models of one scan by id; replaced whole by the next."""

    entries: dict[str, Entry] = field(default_factory=dict)

    def resolve(self, name: str) -> str | None:
        """The id behind an id or an alias."""
        if name in self.entries:
            return name
        return next((entry.id for entry in self.entries.values() if name in entry.aliases), None)
