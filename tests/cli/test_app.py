"""The program as a whole: its version, and what it imports when."""

from __future__ import annotations

import subprocess
import sys

from tests.cli.program import run


def test_help_imports_no_role() -> None:
    """A role's libraries take a second to import, which --help and shell completion must not wait for."""
    code = (
        "import sys, cortex.cli.app\n"
        "heavy = ('cortex.gateway', 'cortex.neuron', 'cortex.engine', 'litestar', 'llama_cpp')\n"
        "heavy += ('numpy', 'httpx', 'structlog', 'importlib.metadata')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_roles_start_without_an_http_client_or_the_hub() -> None:
    """Together they were a third of a neuron's import time at start, and are rarely used."""
    code = (
        "import sys, cortex.gateway.app, cortex.neuron.app\n"
        "print([name for name in ('httpx', 'huggingface_hub.hf_api') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version_names_cortex_and_llama_cpp() -> None:
    done = subprocess.run([sys.executable, "-m", "cortex", "version"], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first.startswith("cortex ")
    assert second.startswith("llama-cpp-python 0.")


def test_version_is_an_option_too() -> None:
    assert run("--version").stdout.startswith("cortex ")
