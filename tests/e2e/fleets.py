"""Fleets of models that differ in their names only: scripted talkers of about 45 MiB each."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.clients import chat_body
from tests.e2e.conftest import Launcher
from tests.e2e.models import HELLO
from tests.e2e.processes import Daemon

__all__ = ["ONE", "Answer", "ask", "ask_all", "loads", "profiles", "resident", "said_hello", "talkers"]

ONE = "80MiB"
"""Memory for one talker."""

Answer = httpx.Response


def talkers(launcher: Launcher, *names: str) -> Path:
    """A model directory with a talker under each name."""
    directory = launcher.directory / f"talkers-{'-'.join(names)}"
    directory.mkdir(exist_ok=True)
    for name in names:
        shutil.copyfile(launcher.directory / "models" / "talker.gguf", directory / f"{name}.gguf")
    return directory


def profiles(*names: str, **extra: str) -> str:
    """models.toml for talkers, with a fixed context, so that none is made smaller to fit beside another one.

    `extra` are further lines by model.
    """
    return "\n".join(
        f'[[models]]\nid = "{name}"\nfile = "{name}.gguf"\ncontext = 8192\nparallel = 4\n{extra.get(name, "")}'
        for name in names
    )


def ask(server: Daemon, model: str, content: str = "hello", **options: Any) -> Answer:
    return server.post("/v1/chat/completions", chat_body(content, model=model, **options))


def ask_all(server: Daemon, models: list[str], content: str = "hello", workers: int = 16) -> list[Answer]:
    """One request per entry, all at once."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda model: ask(server, model, content), models))


def loads(neuron: Daemon, model: str | None = None) -> int:
    """How often the neuron has loaded `model`; None = any model."""
    return sum(model in (None, line["model"]) for line in neuron.events("model loaded"))


def resident(neuron: Daemon) -> set[str]:
    return {status["card"]["id"] for status in neuron.status()["models"] if status.get("state") == "ready"}


def said_hello(answer: Answer) -> bool:
    return answer.is_success and answer.json()["choices"][0]["message"]["content"] == HELLO
