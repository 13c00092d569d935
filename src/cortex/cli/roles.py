"""The commands `gateway` and `neuron`, which run a role in this process, and `version`."""

from __future__ import annotations

import sys

import typer

from cortex.cli.options import ConfigPath, Gpus, Listen, ModelsPath, UpFile, parse_gpus
from cortex.cli.up_config import completion
from cortex.config.source import ConfigSource

__all__ = ["register", "version"]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for command in (gateway, neuron):
        app.command(rich_help_panel="Serve")(command)
    app.command(rich_help_panel="More")(version)


def gateway(config: ConfigPath = None, models: ModelsPath = None, listen: Listen = None, up: UpFile = None) -> None:
    """Run a gateway: serve a fleet of neurons behind one URL."""
    source = ConfigSource(config, models, {"gateway.listen": listen}, completion(up))
    settings, profiles = source.read()
    from cortex import logs
    from cortex.gateway import app

    logs.configure(settings.log)
    app.run(settings, profiles, source=source, configure_logs=logs.configure)


def neuron(
    config: ConfigPath = None,
    models: ModelsPath = None,
    listen: Listen = None,
    gpus: Gpus = None,
    up: UpFile = None,
) -> None:
    """Run a neuron: serve this machine's models on its GPUs, or on its CPU if it has none."""
    overrides = {"neuron.listen": listen, "neuron.gpus": parse_gpus(gpus)}
    source = ConfigSource(config, models, overrides, completion(up))
    settings, profiles = source.read()
    from cortex import logs
    from cortex.neuron import app

    logs.configure(settings.log)
    app.run(settings, profiles, source=source, configure_logs=logs.configure)


def version() -> None:
    """Print the versions of cortex and of llama-cpp-python."""
    from importlib.metadata import version as installed

    from cortex import __version__

    sys.stdout.write(f"cortex {__version__}\nllama-cpp-python {installed('llama-cpp-python')}\n")
