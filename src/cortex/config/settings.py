"""cortex.toml as frozen structs. `config.loading` reads them.

An unknown key, a wrong type or a number out of range is a ConfigError that names the file, the path and the nearest
valid key or the bound. The whole config is replaced on reload, never changed in place.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import platformdirs
from msgspec import Meta, Struct

from cortex.errors import ConfigError

__all__ = [
    "AdmissionConfig",
    "AnthropicConfig",
    "AuthConfig",
    "Config",
    "Count",
    "EvictionConfig",
    "FaultsConfig",
    "GatewayConfig",
    "ImagesConfig",
    "LimitsConfig",
    "LogConfig",
    "NeuronConfig",
    "NeuronEntry",
    "Positive",
    "ResponsesConfig",
    "Seconds",
    "Section",
    "Size",
    "Whole",
    "check_exposure",
    "parse_bytes",
    "split_listen",
]

_SIZE = r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*"

Whole = Annotated[int, Meta(ge=0)]
Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
Size = Whole | Annotated[str, Meta(pattern=f"(?i)^{_SIZE}$")]
"""As `parse_bytes` reads it."""
_SizeOrNever = Whole | Annotated[str, Meta(pattern=f"(?i)^{_SIZE}$|^never$")]


class Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Frozen: config is shared by tasks. Unknown keys are refused: a typo must not pass for a default."""


class AuthConfig(Section, frozen=True):
    """`keys` maps a key to the principal's name; `keys_file` holds one `key name` per line and is re-read on reload."""

    keys: dict[str, str] | list[str] = []
    keys_file: str | None = None


class LimitsConfig(Section, frozen=True):
    """`body_bytes`: long histories with images are tens of MiB. Seconds elsewhere."""

    body_bytes: Size = "64MiB"
    request_s: Positive = 3600.0
    first_event_s: Positive = 20.0
    keepalive_s: Positive = 5.0
    stall_s: Positive = 120.0
    drain_s: Seconds = 30.0


class ImagesConfig(Section, frozen=True):
    """Fetching http(s) image URLs is off unless asked for: a URL in a prompt must not reach into the network."""

    fetch: bool = False
    max_bytes: Size = "10MiB"
    timeout_s: Positive = 10.0


class AnthropicConfig(Section, frozen=True):
    """`normalise_billing_header`: Claude Code's first system line changes with every request; left as it is, no
    prompt would share a prefix with the one before."""

    normalise_billing_header: bool = True


class ResponsesConfig(Section, frozen=True):
    """Where `store: true` responses live: `store` is a SQLite file, None keeps them in memory."""

    store: str | None = None
    max_entries: Whole = 1000
    max_age_s: Seconds = 7 * 24 * 3600


class AdmissionConfig(Section, frozen=True):
    """Per model: how many run at once, how many may wait, and for how long (seconds)."""

    in_flight: Count = 8
    queue: Whole = 8
    queue_s: Seconds = 30.0
    per_principal: Count = 2
    non_stream_load_s: Seconds = 60.0


class EvictionConfig(Section, frozen=True):
    strategy: Literal["lru", "priority"] = "lru"
    defrag_after_cycles: Whole = 50
    idle_ttl_s: Seconds = 0.0
    min_residency_s: Seconds = 10.0
    starvation_s: Seconds = 60.0


class GatewayConfig(Section, frozen=True):
    listen: str = "127.0.0.1:31313"
    metrics_listen: str | None = "127.0.0.1:31314"
    default_model: str | None = None
    silence_s: Positive = 15.0
    connect_s: Positive = 2.0
    tries: Count = 3
    push_profiles: bool = False
    state_dir: str | None = None
    insecure: bool = False

    @property
    def state_path(self) -> Path:
        """Where operators' pins and drains are kept."""
        return Path(self.state_dir).expanduser() if self.state_dir else platformdirs.user_state_path("cortex")


class NeuronEntry(Section, frozen=True):
    """A neuron the gateway knows; `token` is what the gateway presents to it. `push_profiles` None = as
    `gateway.push_profiles` says."""

    name: str
    endpoint: str
    token: str | None = None
    push_profiles: bool | None = None


class NeuronConfig(Section, frozen=True):
    """`gpus` "all" finds them; with none found the CPU serves. `cpu_devices` makes that many virtual CPU devices of
    `cpu_memory` each instead (tests, and hosts without a GPU). `threads` per worker, None = llama.cpp's choice. A
    worker whose resident memory passes `worker_memory` is replaced (None = no limit). Up to
    `kv_to_disk` bytes of cached prefixes of unloaded models wait below `state_dir` for their next load (0 = none)."""

    listen: str = "127.0.0.1:13131"
    name: str | None = None
    gpus: Literal["all", "none"] | list[int | str] = "all"
    cpu_devices: Whole = 0
    cpu_memory: Size | None = None
    threads: Count | None = None
    model_dirs: list[str] = msgspec.field(default_factory=lambda: ["~/models"])
    huggingface_cache: bool = True
    offline: bool = False
    default_models: list[str] = []
    state_dir: str | None = None
    memory_margin: Annotated[float, Meta(ge=0, lt=1)] = 0.05
    heartbeat_s: Positive = 10.0
    canary_s: Seconds = 60.0
    load_stall_s: Positive = 120.0
    kill_grace_s: Seconds = 5.0
    empty_worker_s: Seconds = 2.0
    worker_memory: Size | None = None
    kv_to_disk: Size = "8GiB"
    host_cache: Size = "1GiB"
    rpc_listen: str | None = None
    dry_run_from: _SizeOrNever = "2GiB"
    insecure: bool = False

    @property
    def state_path(self) -> Path:
        """Where measured memory, saved KV and the like are kept."""
        return Path(self.state_dir).expanduser() if self.state_dir else platformdirs.user_state_path("cortex")


class LogConfig(Section, frozen=True):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


class FaultsConfig(Section, frozen=True):
    """Test-only switches in the shipped binary, each off by default; docs/testing.md lists them.

    Values are probabilities or counts; `models` limits them to these ids (empty = all).
    """

    models: list[str] = []
    load_fails: int = 0
    load_delay_s: float = 0.0
    load_stalls: bool = False
    decode_fatal_after: int = 0
    decode_delay_s: float = 0.0
    drop_heartbeat: bool = False
    extra_used_bytes: int = 0


class Config(Section, frozen=True):
    auth: AuthConfig = AuthConfig()
    limits: LimitsConfig = LimitsConfig()
    images: ImagesConfig = ImagesConfig()
    anthropic: AnthropicConfig = AnthropicConfig()
    responses: ResponsesConfig = ResponsesConfig()
    admission: AdmissionConfig = AdmissionConfig()
    eviction: EvictionConfig = EvictionConfig()
    gateway: GatewayConfig = GatewayConfig()
    neurons: list[NeuronEntry] = []
    neuron: NeuronConfig = NeuronConfig()
    log: LogConfig = LogConfig()
    models: str | None = None
    faults: FaultsConfig | None = None


def parse_bytes(value: int | str) -> int:
    """`"2GiB"`, `"500MB"`, `"1.5 GiB"` or a plain number of bytes. Raises ConfigError."""
    if isinstance(value, int):
        return value
    match = re.fullmatch(_SIZE, value, re.IGNORECASE)
    if not match:
        raise ConfigError(f"{value!r} is not a size; write bytes or e.g. 2GiB")
    number, unit, binary = match.groups()
    base = 1024 if binary else 1000
    return int(float(number) * base ** " KMGT".index(unit.upper() or " "))


def split_listen(listen: str) -> tuple[str, int]:
    """("127.0.0.1", 31313) from "127.0.0.1:31313"; "[::1]:80" works. Port 0 = the system chooses."""
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{listen!r} is not host:port")
    return host.strip("[]"), int(port)


def check_exposure(listen: str, has_keys: bool, insecure: bool, section: str) -> None:
    """Refuse to listen beyond loopback without keys: thousands of open inference servers were found that way."""
    host, _ = split_listen(listen)
    if has_keys or insecure or _is_loopback(host):
        return
    raise ConfigError(
        f"{section}.listen = {listen!r} is reachable from other machines and no API key is set: "
        f"add [auth] keys, listen on 127.0.0.1, or write {section}.insecure = true if you mean it"
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
