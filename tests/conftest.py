"""What all tests share: the same draws everywhere, and nothing of the caller's environment that changes an outcome."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

_KEPT = {"CORTEX_CACHE", "CORTEX_STORM", "CORTEX_GOLDEN", "CORTEX_FUZZ_EXAMPLES", "CORTEX_REGENERATE_GOLDEN"}
_OURS = ("HF_", "HUGGINGFACE_", "CORTEX_", "OPENAI_", "ANTHROPIC_", "LANGCHAIN_", "LANGSMITH_")
_PROXIES = {"http_proxy", "https_proxy", "ftp_proxy", "all_proxy"}

for _name in list(os.environ):
    # Everything here listens on loopback; a proxy would be asked for it, settings and hub switches would be obeyed.
    if _name.lower() in _PROXIES or (_name.startswith(_OURS) and _name not in _KEPT):
        del os.environ[_name]


def pytest_configure(config: pytest.Config) -> None:
    """A test tells of the code, not of luck or of how busy the machine is: hypothesis draws the same examples in every
    run. `--hypothesis-seed=random` (or a number) draws others."""
    settings.register_profile(
        "cortex",
        derandomize=config.getoption("hypothesis_seed") is None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("cortex")
