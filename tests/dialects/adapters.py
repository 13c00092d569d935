"""Every dialect under test."""

from __future__ import annotations

from tests.dialects.adapters_anthropic import ANTHROPIC_MESSAGES
from tests.dialects.adapters_openai import OPENAI_CHAT, OPENAI_COMPLETIONS
from tests.dialects.adapters_responses import OPENAI_RESPONSES
from tests.dialects.harness import Dialect
from tests.dialects.scripts import CUT_SCRIPTS, SCRIPTS, Script

__all__ = ["DIALECTS", "cases"]

DIALECTS: tuple[Dialect, ...] = (OPENAI_CHAT, OPENAI_COMPLETIONS, OPENAI_RESPONSES, ANTHROPIC_MESSAGES)


def cases(*dialects: Dialect) -> list[tuple[Dialect, Script]]:
    """Every script that each of `dialects` (all of them by default) can be asked for."""
    scripts = (*SCRIPTS, *CUT_SCRIPTS)
    return [(dialect, script) for dialect in dialects or DIALECTS for script in scripts if dialect.tells(script)]
