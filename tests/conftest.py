"""For all tests: hypothesis draws the same examples everywhere, and the caller's environment changes no outcome."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

_KEPT = {"CORTEX_CACHE", "CORTEX_STORM", "CORTEX_GOLDEN", "CORTEX_FUZZ_EXAMPLES", "CORTEX_REGENERATE_GOLDEN"}
_OURS = ("HF_", "HUGGINGFACE_", "CORTEX_", "OPENAI_", "ANTHROPIC_", "LANGCHAIN_", "LANGSMITH_")
_PROXIES = {"http_proxy", "https_proxy", "ftp_proxy", "all_proxy"}

for _name in list(os.environ):
    # A proxy would be used for loopback addresses too; our settings and those of the hub's library would apply.
    if _name.lower() in _PROXIES or (_name.startswith(_OURS) and _name not in _KEPT):
        del os.environ[_name]


def pytest_configure(config: pytest.Config) -> None:
    """Make runs repeatable: hypothesis draws the same examples every time, and a busy machine fails no deadline.

    `--hypothesis-seed=random` (or a number) draws others.
    """
    settings.register_profile(
        "cortex",
        derandomize=config.getoption("hypothesis_seed") is None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("cortex")
