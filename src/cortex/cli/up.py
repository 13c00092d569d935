"""`cortex up`: a neuron and a gateway on one machine, as two child processes."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import typer

from cortex.cli.options import ConfigPath, Gpus, Listen, ModelsPath, parse_gpus, read_config
from cortex.cli.up_config import UpPlan, make_plan, why_not_free
from cortex.config.settings import Config, check_exposure
from cortex.errors import ConfigError

__all__ = ["check_listeners", "register"]


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(rich_help_panel="Serve")(up)


def up(config: ConfigPath = None, models: ModelsPath = None, listen: Listen = None, gpus: Gpus = None) -> None:
    """Serve this machine's models: a neuron and a gateway, started and stopped together."""
    overrides = {"gateway.listen": listen, "neuron.gpus": parse_gpus(gpus)}
    settings, _ = read_config(config, models, overrides)
    check_listeners(settings)
    plan = make_plan(settings)
    with tempfile.TemporaryDirectory(prefix="cortex-") as directory:  # which others can't read
        file = Path(directory) / "up.json"
        file.write_bytes(msgspec.json.encode(plan))
        flags = ["--up", str(file)]
        for name, path in (("--config", config), ("--models", models)):
            flags += [name, str(path.absolute())] if path else []
        neuron = ["neuron", *flags, *(["--gpus", gpus] if gpus is not None else [])]
        gateway = ["gateway", *flags, *(["--listen", listen] if listen is not None else [])]
        code = asyncio.run(_run(settings, plan, neuron, gateway))
    raise typer.Exit(code)


def check_listeners(settings: Config) -> None:
    """Raise ConfigError where a role can't or may not listen, before anything is started.

    Another process on such a port would answer the health checks in place of our role.
    """
    keys = bool(settings.auth.keys or settings.auth.keys_file)
    gateway, neuron = settings.gateway, settings.neuron
    check_exposure(gateway.listen, keys, gateway.insecure, "gateway")
    check_exposure(neuron.listen, keys, neuron.insecure, "neuron")
    for listen in filter(None, (gateway.listen, gateway.metrics_listen, neuron.listen)):
        if reason := why_not_free(listen):
            raise ConfigError(f"cannot listen on {listen}: {reason}; is cortex running already?")


async def _run(settings: Config, plan: UpPlan, neuron: list[str], gateway: list[str]) -> int:
    from cortex.cli.child_processes import Role, run_roles

    roles = [Role("neuron", neuron, plan.neuron_url), Role("gateway", gateway, plan.gateway_url)]

    async def greet() -> None:
        sys.stdout.write(_greeting(plan.gateway_url, await _first_model(plan)))
        sys.stdout.flush()

    return await run_roles(roles, os.environ, settings.limits.drain_s, greet)


async def _first_model(plan: UpPlan) -> str | None:
    """The first model that the gateway lists; the token is a key wherever keys are set."""
    import httpx

    headers = {"authorization": f"Bearer {plan.token}"}

    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        answer = await client.get(f"{plan.gateway_url}/v1/models", headers=headers)
    models: list[dict[str, Any]] = answer.json().get("data", []) if answer.is_success else []
    return models[0]["id"] if models else None


def _greeting(url: str, model: str | None) -> str:
    first = f"cortex is up at {url}\n"
    if model is None:
        return first + "  no model found: put GGUF files into ~/models or name them in a models.toml (--models)\n"
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello!"}]})
    return (
        f"{first}"
        f"  OpenAI clients:     OPENAI_BASE_URL={url}/v1\n"
        f"  Anthropic clients:  ANTHROPIC_BASE_URL={url}\n"
        f"  curl {url}/v1/chat/completions -H 'content-type: application/json' -d '{body}'\n"
        f"  Ctrl-C stops it.\n"
    )
