"""Llama 3.1 to 3.3: a bare JSON object as the whole answer, or `<|python_tag|>` and a call of a built-in tool."""

from __future__ import annotations

import json
from dataclasses import dataclass

from cortex.engine.chat.formats.base import Steps, Trigger
from cortex.engine.chat.formats.json_calls import JsonCalls
from cortex.engine.chat.formats.pythonic import arguments_expression
from cortex.engine.chat.splitting.reader import EndOfInput, Reader
from cortex.engine.chat.splitting.tool_call_emitter import ToolCallEmitter

__all__ = ["LLAMA3"]

_TAG = "<|python_tag|>"
# Tools that clients offer for running code; the tag then stands before plain code.
_INTERPRETERS = ("python", "ipython", "code_interpreter")


@dataclass(frozen=True, slots=True)
class _Llama3(JsonCalls):
    def parse(self, reader: Reader, sink: ToolCallEmitter) -> Steps:
        if (yield from reader.take(_TAG)) is None:
            yield from JsonCalls.parse(self, reader, sink)
            return
        yield from reader.skip_blank()
        if (yield from reader.peek()) == "{":
            yield from JsonCalls.parse(self, reader, sink)
        elif (interpreter := next((name for name in _INTERPRETERS if name in sink.tools), None)) is not None:
            yield from _code(reader, sink, interpreter)
        else:
            name, _ = yield from reader.name(".call(")
            sink.begin(name)
            yield from arguments_expression(reader, sink)


def _code(reader: Reader, sink: ToolCallEmitter, interpreter: str) -> Steps:
    """Everything that follows is the code."""
    properties = sink.tools[interpreter].parameters.get("properties") or {"code": {}}
    sink.begin(interpreter)
    sink.arguments("{" + json.dumps(next(iter(properties))) + ': "')
    try:
        while True:
            part, _ = yield from reader.part(_TAG)
            sink.arguments(json.dumps(part, ensure_ascii=False)[1:-1])
    except EndOfInput:
        sink.arguments('"}')
    sink.end()


LLAMA3 = _Llama3(
    name="llama3",
    open="{",
    bare=True,
    at_start=True,
    other_triggers=(Trigger(_TAG),),
    argument_keys=("parameters", "arguments"),
    evidence=('{"name": ', '"parameters"', "<|eom_id|>"),
)
