"""cortex.toml as frozen structs, which `config.loading` reads.

cortex.toml.example describes every key; docs/reference is generated from it. An unknown key, a wrong type or a number
out of range is a ConfigError that names the file, the path and the nearest valid key or the bound. On reload the whole
config is replaced, never changed in place.
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
"""A number of bytes, or a string for `parse_bytes`."""
_SizeOrNever = Whole | Annotated[str, Meta(pattern=f"(?i)^{_SIZE}$|^never$")]


class Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Base of the sections. Frozen, since tasks share the config; unknown keys are errors, lest a typo be ignored."""


class AuthConfig(Section, frozen=True):
    """API keys. `keys` maps each to a principal's name; `keys_file` has one `key name` a line, read again on reload."""

    keys: dict[str, str] | list[str] = []
    keys_file: str | None = None


class LimitsConfig(Section, frozen=True):
    """Limits of HTTP requests. Bodies are large: long histories with images are tens of MiB."""

    body_bytes: Size = "64MiB"
    request_s: Positive = 3600.0
    first_event_s: Positive = 20.0
    keepalive_s: Positive = 5.0
    stall_s: Positive = 120.0
    drain_s: Seconds = 30.0


class ImagesConfig(Section, frozen=True):
    """Downloading http(s) image URLs. Off by default: prompts must not make this server send requests (SSRF)."""

    fetch: bool = False
    max_bytes: Size = "10MiB"
    timeout_s: Positive = 10.0


class AnthropicConfig(Section, frozen=True):
    """Anthropic's messages. Claude Code's first system line changes with every request; unless it is normalised, no
    prompt shares a prefix with the one before."""

    normalise_billing_header: bool = True


class ResponsesConfig(Section, frozen=True):
    """Responses with `store: true`. `store` is a SQLite file; None keeps them in memory."""

    store: str | None = None
    max_entries: Whole = 1000
    max_age_s: Seconds = 7 * 24 * 3600


class AdmissionConfig(Section, frozen=True):
    """Per model: how many requests run at once, how many wait, and for how long."""

    in_flight: Count = 8
    queue: Whole = 8
    queue_s: Seconds = 30.0
    per_principal: Count = 2
    non_stream_load_s: Seconds = 60.0


class EvictionConfig(Section, frozen=True):
    """When models are unloaded, and which ones."""

    strategy: Literal["lru", "priority"] = "lru"
    defrag_after_cycles: Whole = 50
    idle_ttl_s: Seconds = 0.0
    min_residency_s: Seconds = 10.0
    starvation_s: Seconds = 60.0


class GatewayConfig(Section, frozen=True):
    """A gateway's own settings."""

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
        """The directory in which operators' pins and drains are saved."""
        return Path(self.state_dir).expanduser() if self.state_dir else platformdirs.user_state_path("cortex")


class NeuronEntry(Section, frozen=True):
    """A neuron of the fleet. `token` is the API key that the gateway sends to it; `push_profiles` None = as
    `gateway.push_profiles`."""

    name: str
    endpoint: str
    token: str | None = None
    push_profiles: bool | None = None


class NeuronConfig(Section, frozen=True):
    """A neuron's own settings.

    With `gpus` = "all" and no GPU found, the CPU is used. `cpu_devices` replaces the devices by so many virtual CPU
    devices of `cpu_memory` each, for tests and hosts without a GPU.
    """

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
        """The directory for measured sizes, saved prefixes and the like."""
        return Path(self.state_dir).expanduser() if self.state_dir else platformdirs.user_state_path("cortex")


class LogConfig(Section, frozen=True):
    """Logging. `format` "auto" is console on a terminal, json otherwise."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


class FaultsConfig(Section, frozen=True):
    """Faults for tests to inject, all off by default; docs/explanation/testing.md lists them.

    `models` limits them to these ids (empty = all). The first `load_fails` loads fail; decoding fails after
    `decode_fatal_after` steps (0 = never).
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
    """The whole file. `models` is the path of models.toml."""

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
    """A size in bytes, from a number or e.g. "2GiB", "500MB", "1.5 GiB". Raises ConfigError."""
    if isinstance(value, int):
        return value
    match = re.fullmatch(_SIZE, value, re.IGNORECASE)
    if not match:
        raise ConfigError(f"{value!r} is not a size; write bytes or e.g. 2GiB")
    number, unit, binary = match.groups()
    base = 1024 if binary else 1000
    return int(float(number) * base ** " KMGT".index(unit.upper() or " "))


def split_listen(listen: str) -> tuple[str, int]:
    """Host and port of an address: "127.0.0.1:31313" or "[::1]:80". Port 0 = the system chooses. Raises ConfigError."""
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{listen!r} is not host:port")
    return host.strip("[]"), int(port)


def check_exposure(listen: str, has_keys: bool, insecure: bool, section: str) -> None:
    """Raise ConfigError for listening beyond loopback without keys, unless `insecure`. `section` is for the message."""
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
