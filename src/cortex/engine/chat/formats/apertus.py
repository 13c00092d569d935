"""Apertus: `<|tools_prefix|>[{"f": {"k": "v"}}]<|tools_suffix|>`; the name is the key."""

from __future__ import annotations

import json
from dataclasses import dataclass

from cortex.engine.chat.formats.base import Steps
from cortex.engine.chat.formats.json_calls import JsonCalls, stream_arguments
from cortex.engine.chat.splitting.reader import Malformed, Reader
from cortex.engine.chat.splitting.tool_call_emitter import ToolCallEmitter
from cortex.engine.grammar.lark import LarkBuilder
from cortex.wire.inference import Tool

__all__ = ["APERTUS"]


@dataclass(frozen=True, slots=True)
class _NameIsKey(JsonCalls):
    def read_object(self, reader: Reader, sink: ToolCallEmitter) -> Steps:
        yield from reader.expect("{")
        yield from reader.skip_blank()
        if (yield from reader.peek()) != '"':
            raise Malformed
        sink.begin(reader.markers.decode(str(json.loads((yield from reader.json_text())))))
        yield from reader.skip_blank()
        yield from reader.expect(":")
        yield from stream_arguments(reader, sink)
        yield from reader.skip_blank()
        yield from reader.expect("}")
        sink.end()

    def call_object(self, lark: LarkBuilder, tool: Tool) -> str:
        head = f"{{{json.dumps(tool.name)}: "
        return lark.rule(f'{json.dumps(head)} {lark.json(tool.parameters)} "}}"')


APERTUS = _NameIsKey(
    name="apertus",
    open="<|tools_prefix|>",
    close="<|tools_suffix|>",
    array=True,
    evidence=("<|tools_prefix|>",),
)
