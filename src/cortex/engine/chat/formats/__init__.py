"""The families of tool-call markup, in the order in which the probe asks them.

Order matters where one family's parser or marks would also fit another's models: the more peculiar comes first, what
has no marker at all last.
"""

from __future__ import annotations

from cortex.engine.chat.formats.apertus import APERTUS
from cortex.engine.chat.formats.atem import ATEM
from cortex.engine.chat.formats.base import Evidence, ReasoningFormat, ToolFormat, Trigger
from cortex.engine.chat.formats.deepseek import DEEPSEEK_R1, DEEPSEEK_V31, DSML, DSML_CALLS
from cortex.engine.chat.formats.functionary import FUNCTIONARY_32
from cortex.engine.chat.formats.gemma4 import FUNCTION_GEMMA, GEMMA4
from cortex.engine.chat.formats.glm import GLM, HY3
from cortex.engine.chat.formats.harmony import HARMONY
from cortex.engine.chat.formats.hermes import HERMES
from cortex.engine.chat.formats.json_families import (
    APRIEL,
    COHERE,
    COMMAND_R,
    FIREFUNCTION,
    GIGACHAT,
    GIGACHAT_31,
    GRANITE,
    INTERNLM,
    LONGCAT,
    NEMOTRON,
    XLAM,
)
from cortex.engine.chat.formats.kimi import KIMI_K2, KIMI_K3
from cortex.engine.chat.formats.llama3 import LLAMA3
from cortex.engine.chat.formats.minicpm import MINICPM5
from cortex.engine.chat.formats.minimax import MINIMAX_M1, MINIMAX_M2
from cortex.engine.chat.formats.minimax_m3 import MINIMAX_M3
from cortex.engine.chat.formats.mistral import MISTRAL_ARGS, MISTRAL_ARRAY, MISTRAL_CALL_ID
from cortex.engine.chat.formats.name_families import FUNCTIONARY_31, SOLAR
from cortex.engine.chat.formats.python_families import BARE_PYTHON, LFM2, OLMO3
from cortex.engine.chat.formats.xml_functions import QWEN3_CODER, SEED

__all__ = ["FAMILIES", "Evidence", "ReasoningFormat", "ToolFormat", "Trigger", "by_name"]

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


def by_name(name: str) -> ToolFormat | None:
    """The family that an operator named in a profile."""
    return next((family for family in FAMILIES if family.name == name), None)
