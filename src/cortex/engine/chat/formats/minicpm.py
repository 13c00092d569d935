"""MiniCPM 5: `<function name="f"><param name="k">v</param></function>`."""

from __future__ import annotations

from cortex.engine.chat.formats.tagged import TaggedCalls

__all__ = ["MINICPM5"]

MINICPM5 = TaggedCalls(
    name="minicpm5",
    call_open='<function name="',
    name_end='">',
    param_open='<param name="',
    key_end='">',
    value_close="</param>",
    call_close="</function>",
    cdata=True,
    evidence=('<function name="', '<param name="'),
)
