"""`cortex up`: a neuron and a gateway on one machine, as two child processes."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import typer

from cortex.cli.options import ConfigPath, Gpus, Listen, ModelsPath, parse_gpus, read_config
from cortex.cli.up_config import GeneratedConfig, why_not_free, write
from cortex.config.settings import Config, check_exposure
from cortex.errors import ConfigError

__all__ = ["check_listeners", "register"]


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(rich_help_panel="Serve")(up)


def up(config: ConfigPath = None, models: ModelsPath = None, listen: Listen = None, gpus: Gpus = None) -> None:
    """Serve this machine's models: a neuron and a gateway, started and stopped together."""
    overrides = {"gateway.listen": listen, "neuron.gpus": parse_gpus(gpus)}
    settings, profiles = read_config(config, models, overrides)
    check_listeners(settings)
    with tempfile.TemporaryDirectory(prefix="cortex-") as directory:
        files = write(settings, profiles, Path(directory))
        code = asyncio.run(_run(settings, files))
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


async def _run(settings: Config, files: GeneratedConfig) -> int:
    from cortex.cli.child_processes import Role, run_roles

    roles = [
        Role("neuron", ["neuron", "--config", str(files.config)], files.neuron_url),
        Role("gateway", ["gateway", "--config", str(files.config)], files.gateway_url),
    ]

    async def greet() -> None:
        sys.stdout.write(_greeting(files.gateway_url, await _first_model(files, settings)))
        sys.stdout.flush()

    # The generated file has the values of these variables already, with free ports instead of port 0.
    environment = {name: value for name, value in os.environ.items() if not _is_config(name)}
    return await run_roles(roles, environment, settings.limits.drain_s, greet)


def _is_config(name: str) -> bool:
    return name == "CORTEX_CONFIG" or (name.startswith("CORTEX_") and "__" in name)


async def _first_model(files: GeneratedConfig, settings: Config) -> str | None:
    import httpx

    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        answer = await client.get(f"{files.gateway_url}/v1/models", headers=_headers(settings))
    models: list[dict[str, Any]] = answer.json().get("data", []) if answer.is_success else []
    return models[0]["id"] if models else None


def _headers(settings: Config) -> dict[str, str]:
    """Any key of the config: without one the request is refused, and the greeting would say that there is no model."""
    key = os.environ.get("CORTEX_API_KEY") or next(iter(settings.auth.keys), None)
    return {"authorization": f"Bearer {key}"} if key else {}


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
