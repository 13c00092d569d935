"""Llama 3.1 to 3.3: a bare JSON object as the whole answer, or `<|python_tag|>` and a call of a built-in tool.

Source: meta-llama-Llama-3.1-8B-Instruct.jinja, -3.2-3B- and -3.3-70B- in llama.cpp's models/templates.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from cortex.engine.chat.formats.base import Trigger
from cortex.engine.chat.formats.json_calls import JsonCalls
from cortex.engine.chat.formats.pythonic import keyword_arguments
from cortex.engine.chat.splitting.reader import EndOfInput, Reader, Reading
from cortex.engine.chat.splitting.tool_call_emitter import ToolCallEmitter
from cortex.engine.grammar.argument_shape import argument_shape

__all__ = ["LLAMA3"]

_TAG = "<|python_tag|>"
# Names under which clients offer a tool that runs code; the tag then comes before the plain code.
_INTERPRETERS = ("python", "ipython", "code_interpreter")


@dataclass(frozen=True, slots=True)
class _Llama3(JsonCalls):
    """JSON calls, also after the tag, where `f.call(key="value")` or code may come instead."""

    def parse(self, reader: Reader, emitter: ToolCallEmitter) -> Reading[None]:
        if (yield from reader.take(_TAG)) is None:
            yield from JsonCalls.parse(self, reader, emitter)
            return
        yield from reader.skip_whitespace()
        if (yield from reader.peek()) == "{":
            yield from JsonCalls.parse(self, reader, emitter)
        elif (interpreter := next((name for name in _INTERPRETERS if name in emitter.tools), None)) is not None:
            yield from _code(reader, emitter, interpreter)
        else:
            name, _ = yield from reader.name(".call(")
            emitter.begin(name)
            yield from keyword_arguments(reader, emitter, emitter.tools[name])


def _code(reader: Reader, emitter: ToolCallEmitter, interpreter: str) -> Reading[None]:
    """Everything up to the end of the output as the code argument of `interpreter`."""
    properties = argument_shape(emitter.tools[interpreter].parameters).properties or {"code": {}}
    emitter.begin(interpreter)
    emitter.arguments("{" + json.dumps(next(iter(properties))) + ': "')
    try:
        while True:
            part, _ = yield from reader.part(_TAG)
            emitter.arguments(json.dumps(part, ensure_ascii=False)[1:-1])
    except EndOfInput:
        if reader.cut:
            raise
        emitter.arguments('"}')
    emitter.end()


LLAMA3 = _Llama3(
    name="llama3",
    open="{",
    bare=True,
    at_start=True,
    other_triggers=(Trigger(_TAG),),
    argument_keys=("parameters", "arguments"),
    evidence=('{"name": ', '"parameters"', "<|eom_id|>"),
)
