"""What llama.cpp allocates for a model, from its own report in a process of its own.

Left out are weights that a CPU's backend keeps a second time in a layout of its own: none, some or all of them, as the
CPU has instructions for it, so that no figure would hold on another machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

__all__ = ["loaded_bytes"]

_PROGRAM = r"""
import json, re, sys
from cortex.engine.llama.library import LogTap, start_backend
from cortex.engine.loading import load
from cortex.wire.worker import LoadSpec
copies = 0
def on_line(line):
    global copies
    if found := re.search(r"(?:REPACK|AMX|KLEIDIAI\w*|RISCV\w*) model buffer size\s*=\s*([\d.]+) MiB", line):
        copies += int(float(found[1]) * 1024 * 1024)
tap = LogTap(on_line=on_line)
tap.install()
start_backend()
path, context, parallel = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
hosted = load(LoadSpec("m", path, context, parallel=parallel), tap, lambda fraction: None, 1)
print(json.dumps(sum(hosted.notice.bytes_by_device.values()) - copies))
"""


def loaded_bytes(path: Path, context: int, parallel: int) -> int:
    command = [sys.executable, "-c", _PROGRAM, str(path), str(context), str(parallel)]
    answer = subprocess.run(command, capture_output=True, check=True, timeout=300)
    return int(json.loads(answer.stdout))
