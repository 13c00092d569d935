"""Prints what the chat probe finds in a GGUF, as a JSON ProbeReport: `python -m cortex.engine.tools.gguf_report FILE`.

A program of its own since only the engine may load llama.cpp; `cortex models probe` runs it. Only the tokenizer and
the metadata are read. Exit code 6 and a line on standard error if the file can't be read.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from cortex.engine.chat.model import ChatModel
from cortex.engine.llama.library import LogTap, start_backend
from cortex.engine.llama.model import Model
from cortex.errors import CortexError
from cortex.wire.worker import ProbeReport

__all__ = ["main", "probe_file"]


def probe_file(path: Path, template: str | None = None) -> ProbeReport:
    """Probe `path`; `template` overrides the GGUF's own. Raises ModelLoadFailed."""
    tap = LogTap()
    tap.install()
    start_backend()
    model = Model.load_vocabulary(str(path), tap)
    try:
        chat = ChatModel.from_gguf(model.template, model.named_templates, model.vocab, override=template)
        return chat.report(path.name)
    finally:
        model.close()


def main() -> None:
    """Read the arguments, print the report."""
    parser = argparse.ArgumentParser(prog="cortex.engine.tools.gguf_report", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--template", type=Path, help="a chat template to use instead of the GGUF's")
    arguments = parser.parse_args()
    template = arguments.template.read_text() if arguments.template else None
    try:
        report = probe_file(arguments.file, template)
    except CortexError as error:
        sys.stderr.write(f"{error.message}\n")
        sys.exit(6)
    sys.stdout.write(msgspec.json.encode(report).decode() + "\n")


if __name__ == "__main__":
    main()
