"""models.toml as frozen structs: how each model is served, and where. Shared by gateway and neuron.

A profile takes precedence over what the GGUF file says; a model without a profile is served with the defaults.
models.toml.example describes every key; docs/reference is generated from it.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, structs

from cortex.config.loading import convert, read_toml
from cortex.config.settings import Count, Seconds, Section, Size, Whole
from cortex.errors import ConfigError
from cortex.wire.inference import Sampling
from cortex.wire.status import Cost

__all__ = ["Limit", "Pooling", "Profile", "Profiles", "Replicas", "decode_profiles", "encode_profiles", "load_profiles"]


Pooling = Literal["mean", "cls", "last", "rank"]
"""How one vector is made from an input's tokens, llama.cpp's pooling types; `rank` makes a score."""

_CacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]


class Limit(Section, frozen=True):
    """Limits in tokens for one request: in all, of its input, of its output. None = no limit but the context."""

    context: Count | None = None
    input: Count | None = None
    output: Count | None = None


class Replicas(Section, frozen=True):
    """How many neurons hold a copy of the model: at least `min`, at most `max`."""

    min: Whole = 0
    max: Count = 1


class Profile(Section, frozen=True):
    """One `[[models]]` entry. None = the model's own value, else the engine's default.

    `id` is the name that clients use. `source` = "path" reads `file` (absolute, or relative to a model directory),
    "huggingface" downloads from the repository `repo` (default: `id`) the file `file` or the one for `quant`.
    """

    id: str
    source: Literal["path", "huggingface"] = "path"
    repo: str | None = None
    file: str | None = None
    quant: str | None = None
    revision: str | None = None
    mmproj: str | None = None
    aliases: list[str] = []
    # serving
    context: Count | Literal["auto"] | None = None
    parallel: Count | None = None
    kv_cells: Count | None = None
    batch: Count = 2048
    ubatch: Count = 512
    threads: Count | None = None
    gpu_layers: int = -1
    cache_type_k: _CacheType = "f16"
    cache_type_v: _CacheType = "f16"
    flash_attention: Literal["auto", "on", "off"] = "auto"
    mmap: bool = True
    mlock: bool = False
    embedding: bool | None = None
    pooling: Pooling | None = None
    host_cache: Size | None = None
    isolate_keys: bool = False
    prompt_lookup: bool = True
    backend_sampling: bool = False
    # placement
    split_mode: Literal["none", "layer", "row", "tensor"] = "none"
    devices: list[Whole | str] | Count | None = None
    tensor_split: list[Annotated[float, Meta(ge=0)]] = []
    rpc: list[str] = []
    min_devices: Count = 1
    min_device_vram_mb: Whole = 0
    pinned_on: list[str] = []
    pinned: bool = False
    residency_priority: int = 100
    idle_ttl_s: Seconds | None = None
    replicas: Replicas = Replicas()
    # limits and prices
    limit: Limit = Limit()
    cost: Cost | None = None
    in_flight: Count | None = None
    queue: Whole | None = None
    sampling: Sampling = Sampling()
    # chat
    chat_template: str | None = None
    template_kwargs: dict[str, Any] = {}
    reasoning_format: str | None = None
    tool_format: str | None = None
    special_tokens_in_content: bool = False


class Profiles(Section, frozen=True):
    """The whole file."""

    models: list[Profile] = []

    def get(self, name: str) -> Profile | None:
        """The profile whose id or alias is `name`."""
        return next((profile for profile in self.models if name == profile.id or name in profile.aliases), None)


def load_profiles(path: Path | None) -> Profiles:
    """Read models.toml (None = no profiles). Raises ConfigError, also when two profiles claim one name."""
    return _checked(read_toml(path), str(path)) if path else Profiles()


def encode_profiles(profiles: Profiles) -> tuple[bytes, str]:
    """The profiles as JSON, and a hash of it (16 hex digits) by which a neuron and a gateway compare theirs."""
    document = msgspec.json.encode(profiles)
    return document, blake2b(document, digest_size=8).hexdigest()


def decode_profiles(document: bytes, source: str) -> Profiles:
    """The profiles in a document by `encode_profiles`. Raises ConfigError like `load_profiles`; it names `source`."""
    try:
        return _checked(msgspec.json.decode(document), source)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{source}: {error}") from error


def _checked(document: object, source: str) -> Profiles:
    profiles = convert(document, Profiles, source)
    owners: dict[str, str] = {}
    for profile in profiles.models:
        for name in [profile.id, *profile.aliases]:
            if owners.setdefault(name, profile.id) != profile.id:
                raise ConfigError(f"{source}: {name!r} is claimed by both {owners[name]!r} and {profile.id!r}")
    if len({profile.id for profile in profiles.models}) < len(profiles.models):
        raise ConfigError(f"{source}: an id occurs twice in [[models]]")
    return Profiles(models=[_expanded(profile) for profile in profiles.models])


def _expanded(profile: Profile) -> Profile:
    """The profile with `~` in its file names resolved."""
    names = {name: value for name in ("file", "mmproj", "chat_template") if (value := getattr(profile, name))}
    return structs.replace(profile, **{name: str(Path(value).expanduser()) for name, value in names.items()})
