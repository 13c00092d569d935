"""DeepSeek: R1 and V3 (name, then fenced JSON), V3.1 (name, then JSON), V3.2 and V4 (DSML tags)."""

from __future__ import annotations

from cortex.engine.chat.formats.named_json import NamedJson
from cortex.engine.chat.formats.tagged import TaggedCalls

__all__ = ["DEEPSEEK_R1", "DEEPSEEK_V31", "DSML", "DSML_CALLS"]

DEEPSEEK_R1 = NamedJson(
    name="deepseek_r1",
    section_open="<｜tool▁calls▁begin｜>",
    section_close="<｜tool▁calls▁end｜>",
    call_open="<｜tool▁call▁begin｜>",
    name_prefix="function<｜tool▁sep｜>",
    name_end="\n",
    fence=("```json\n", "\n```"),
    call_close="<｜tool▁call▁end｜>",
    evidence=("<｜tool▁calls▁begin｜>", "```json"),
)

DEEPSEEK_V31 = NamedJson(
    name="deepseek_v31",
    section_open="<｜tool▁calls▁begin｜>",
    section_close="<｜tool▁calls▁end｜>",
    call_open="<｜tool▁call▁begin｜>",
    name_end="<｜tool▁sep｜>",
    call_close="<｜tool▁call▁end｜>",
    evidence=("<｜tool▁calls▁begin｜>", "<｜tool▁sep｜>"),
)


def _dsml(name: str, section: str) -> TaggedCalls:
    return TaggedCalls(
        name=name,
        holds_several=True,
        section_open=f"<｜DSML｜{section}>",
        section_close=f"</｜DSML｜{section}>",
        call_open='<｜DSML｜invoke name="',
        name_end='">',
        param_open='<｜DSML｜parameter name="',
        key_end='"',
        attributes_end=">",
        value_close="</｜DSML｜parameter>",
        call_close="</｜DSML｜invoke>",
        evidence=("｜DSML｜", section),
    )


DSML = _dsml("dsml", "function_calls")
DSML_CALLS = _dsml("dsml_calls", "tool_calls")
