"""What llama.cpp allocates for a model, from its own report in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

__all__ = ["loaded_bytes"]

_PROGRAM = """
import json, sys
from cortex.engine.llama_backend import LogTap, start_backend
from cortex.engine.loader import load
from cortex.wire.worker import LoadSpec
tap = LogTap()
tap.install()
start_backend()
path, context, parallel = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
hosted = load(LoadSpec("m", path, context, parallel=parallel), tap, lambda fraction: None, 1)
print(json.dumps(hosted.loaded.bytes_by_device))
"""


def loaded_bytes(path: Path, context: int, parallel: int) -> int:
    command = [sys.executable, "-c", _PROGRAM, str(path), str(context), str(parallel)]
    answer = subprocess.run(command, capture_output=True, check=True, timeout=120)
    return sum(json.loads(answer.stdout).values())
