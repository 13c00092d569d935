"""The scripted models of the end-to-end tests: their answer depends on the user's last message."""

from __future__ import annotations

from pathlib import Path

from tests.scripted import LOOP, build_scripted

__all__ = ["EMOJI", "HELLO", "TICKS", "build_talker"]

HELLO = "Hello, this is a script. "
TICKS = "tick tock "
EMOJI = "Grüße an alle: 👩‍🚀🎉 – fin\n"

_TEMPLATE = (
    "{% for message in messages %}[{{ message.role }}]{{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}"
    "{% set last = messages[-1].content %}"
    "{% if 'emoji' in last %}<|emoji|>{% elif 'forever' in last %}<|forever|>{% else %}<|hello|>{% endif %}"
    "{% endif %}"
)


def build_talker(path: Path) -> Path:
    """Answers HELLO; to "emoji" EMOJI, partly in byte tokens; to "forever" without end."""
    emoji = [bytes([byte]) if byte > 127 else chr(byte) for byte in EMOJI.encode()]
    return build_scripted(
        path,
        {
            "<|hello|>": ["Hello", ", ", "this", " is", " a", " script", ". "],
            "<|emoji|>": emoji,
            "<|forever|>": ["tick ", "tock ", LOOP],
        },
        template=_TEMPLATE,
    )
