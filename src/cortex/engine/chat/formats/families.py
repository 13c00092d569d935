"""All tool-call formats, in the order in which detection tries them."""

from __future__ import annotations

from cortex.engine.chat.formats.atem import ATEM
from cortex.engine.chat.formats.base import ToolFormat
from cortex.engine.chat.formats.functionary import FUNCTIONARY_32
from cortex.engine.chat.formats.gemma import FUNCTION_GEMMA, GEMMA4
from cortex.engine.chat.formats.harmony import HARMONY
from cortex.engine.chat.formats.json_families import (
    APERTUS,
    APRIEL,
    COHERE,
    COMMAND_R,
    DEEPSEEK_R1,
    DEEPSEEK_V31,
    FIREFUNCTION,
    FUNCTIONARY_31,
    GIGACHAT,
    GIGACHAT_31,
    GRANITE,
    HERMES,
    INTERNLM,
    KIMI_K2,
    LONGCAT,
    MINIMAX_M1,
    MISTRAL_ARGS,
    MISTRAL_ARRAY,
    MISTRAL_CALL_ID,
    NEMOTRON,
    SOLAR,
    XLAM,
)
from cortex.engine.chat.formats.llama3 import LLAMA3
from cortex.engine.chat.formats.pythonic_families import BARE_PYTHON, LFM2, OLMO3
from cortex.engine.chat.formats.tagged_families import (
    DSML,
    DSML_CALLS,
    GLM,
    HY3,
    KIMI_K3,
    MINICPM5,
    MINIMAX_M2,
    MINIMAX_M3,
    QWEN3_CODER,
    SEED,
)

__all__ = ["FAMILIES", "family_by_name"]

FAMILIES: tuple[ToolFormat, ...] = (
    HARMONY,
    ATEM,
    KIMI_K3,
    KIMI_K2,
    MINIMAX_M3,
    MINIMAX_M2,
    GEMMA4,
    FUNCTION_GEMMA,
    DSML,
    DSML_CALLS,
    DEEPSEEK_R1,
    DEEPSEEK_V31,
    FUNCTIONARY_32,
    SEED,
    HY3,
    GLM,
    QWEN3_CODER,
    MINICPM5,
    SOLAR,
    MISTRAL_CALL_ID,
    MISTRAL_ARGS,
    MISTRAL_ARRAY,
    APERTUS,
    COHERE,
    NEMOTRON,
    GIGACHAT,
    GIGACHAT_31,
    LFM2,
    OLMO3,
    APRIEL,
    MINIMAX_M1,
    GRANITE,
    LONGCAT,
    INTERNLM,
    HERMES,
    FIREFUNCTION,
    COMMAND_R,
    FUNCTIONARY_31,
    LLAMA3,
    XLAM,
    BARE_PYTHON,
)
"""The order matters where the parser or the markers of one family also fit another's models: the more specific family
comes first, families without any marker last."""


def family_by_name(name: str) -> ToolFormat | None:
    """The family called `name` in a model's profile (`tool_format`), None if there is none."""
    return next((family for family in FAMILIES if family.name == name), None)
