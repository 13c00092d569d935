"""The commands `gateway` and `neuron`, which run a role in this process, and `version`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import typer

from cortex.cli.options import ConfigPath, Gpus, Listen, ModelsPath, parse_gpus, read_config

__all__ = ["register", "version"]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for command in (gateway, neuron):
        app.command(rich_help_panel="Serve")(command)
    app.command(rich_help_panel="More")(version)


def gateway(config: ConfigPath = None, models: ModelsPath = None, listen: Listen = None) -> None:
    """Run a gateway: serve a fleet of neurons behind one URL."""
    read = partial(read_config, config, models, {"gateway.listen": listen})
    settings, profiles = read()
    from cortex import logs
    from cortex.gateway import app

    logs.configure(settings.log)
    files = [path for path in (config, models or (settings.models and Path(settings.models))) if path]
    app.run(settings, profiles, read=read, files=files)


def neuron(config: ConfigPath = None, models: ModelsPath = None, listen: Listen = None, gpus: Gpus = None) -> None:
    """Run a neuron: serve this machine's models on its GPUs, or on its CPU if it has none."""
    settings, profiles = read_config(config, models, {"neuron.listen": listen, "neuron.gpus": parse_gpus(gpus)})
    from cortex import logs
    from cortex.neuron import app

    logs.configure(settings.log)
    app.run(settings, profiles)


def version() -> None:
    """Print the versions of cortex and of llama-cpp-python."""
    from importlib.metadata import version as installed

    from cortex import __version__

    sys.stdout.write(f"cortex {__version__}\nllama-cpp-python {installed('llama-cpp-python')}\n")
