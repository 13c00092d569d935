"""llama.cpp's log goes through a callback that C keeps."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cortex.engine.llama.library import is_accelerator

_PROGRAM = """
import gc, sys
import llama_cpp
from cortex.engine.llama.library import LogTap, start_backend

start_backend()
LogTap().install()
gc.collect()
assert llama_cpp.llama_model_load_from_file(b"/dev/null", llama_cpp.llama_model_default_params()) is None
"""


@pytest.mark.parametrize(
    ("name", "accelerates"),
    [("CUDA0", True), ("Vulkan1", True), ("MTL0", True), ("CPU", False), ("BLAS", False), ("RPC0", False)],
)
def test_an_accelerator_is_a_device_of_this_host_that_takes_layers(name: str, accelerates: bool) -> None:
    assert is_accelerator(name) is accelerates


def test_a_log_tap_outlives_its_last_reference() -> None:
    """A callback freed by Python and called by C ended a process with a segfault, hours after the mistake."""
    ended = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "failed to load model" in ended.stderr
