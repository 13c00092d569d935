"""Output items under construction, one class per type. Each yields its events, from `output_item.added` to `.done`.

An item keeps its type, id and call_id throughout: openai's stream helper compares them
(`lib/streaming/responses/_responses.py`), and Codex takes the whole item from `output_item.done`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from msgspec import UNSET

from cortex.dialects.custom_tools import CustomInput
from cortex.dialects.opaque_reasoning import encode_opaque
from cortex.dialects.openai.logprobs import ChatLogprobs, TokenEntry
from cortex.dialects.openai.responses.events import (
    ArgumentsDelta,
    ArgumentsDone,
    InputDelta,
    InputDone,
    ItemAdded,
    ItemDone,
    PartAdded,
    PartDone,
    StreamEvent,
    SummaryDelta,
    SummaryDone,
    SummaryPartAdded,
    SummaryPartDone,
    TextDeltaEvent,
    TextDone,
)
from cortex.dialects.openai.responses.objects import (
    ItemStatus,
    OutputCustomCall,
    OutputFunctionCall,
    OutputItem,
    OutputMessage,
    OutputReasoning,
    OutputText,
    SummaryText,
)
from cortex.dialects.openai.responses.tools import ClientTool
from cortex.wire.events import TokenLogprob

__all__ = ["CustomCallBuilder", "FunctionCallBuilder", "ItemBuilder", "MessageBuilder", "ReasoningBuilder"]


class ItemBuilder(Protocol):
    """`item` is the item so far. `opened` is called once, then `appended` any number of times, then `closed` once."""

    def item(self, status: ItemStatus) -> OutputItem: ...
    def opened(self) -> Iterator[StreamEvent]: ...
    def appended(self, piece: str) -> Iterator[StreamEvent]: ...
    def closed(self, status: ItemStatus) -> Iterator[StreamEvent]: ...


class MessageBuilder:
    def __init__(self, item_id: str, index: int) -> None:
        self._id = item_id
        self._index = index
        self._pieces: list[str] = []
        self._logprobs: list[TokenEntry] = []

    def item(self, status: ItemStatus) -> OutputMessage:
        content = [] if status == "in_progress" else [self._text()]
        return OutputMessage(self._id, status, content)

    def opened(self) -> Iterator[StreamEvent]:
        yield ItemAdded(output_index=self._index, item=self.item("in_progress"))
        yield PartAdded(item_id=self._id, output_index=self._index, part=OutputText(""))

    def appended(self, piece: str, logprobs: list[TokenLogprob] | None = None) -> Iterator[StreamEvent]:
        entries: list[TokenEntry] = list(ChatLogprobs.of(logprobs).content) if logprobs else []
        self._pieces.append(piece)
        self._logprobs += entries
        yield TextDeltaEvent(item_id=self._id, output_index=self._index, delta=piece, logprobs=entries)

    def closed(self, status: ItemStatus) -> Iterator[StreamEvent]:
        part = self._text()
        yield TextDone(item_id=self._id, output_index=self._index, text=part.text, logprobs=part.logprobs)
        yield PartDone(item_id=self._id, output_index=self._index, part=part)
        yield ItemDone(output_index=self._index, item=self.item(status))

    def _text(self) -> OutputText:
        return OutputText("".join(self._pieces), logprobs=self._logprobs)


class ReasoningBuilder:
    """`opaque`: the client asked for `reasoning.encrypted_content`, which it returns in the next turn."""

    def __init__(self, item_id: str, index: int, *, opaque: bool) -> None:
        self._id = item_id
        self._index = index
        self._sealed = opaque
        self._pieces: list[str] = []

    def item(self, status: ItemStatus) -> OutputReasoning:
        if status == "in_progress":
            return OutputReasoning(self._id, [])
        text = "".join(self._pieces)
        return OutputReasoning(self._id, [SummaryText(text)], encode_opaque(text) if self._sealed else UNSET)

    def opened(self) -> Iterator[StreamEvent]:
        yield ItemAdded(output_index=self._index, item=self.item("in_progress"))
        yield SummaryPartAdded(item_id=self._id, output_index=self._index, part=SummaryText(""))

    def appended(self, piece: str) -> Iterator[StreamEvent]:
        self._pieces.append(piece)
        yield SummaryDelta(item_id=self._id, output_index=self._index, delta=piece)

    def closed(self, status: ItemStatus) -> Iterator[StreamEvent]:
        text = "".join(self._pieces)
        yield SummaryDone(item_id=self._id, output_index=self._index, text=text)
        yield SummaryPartDone(item_id=self._id, output_index=self._index, part=SummaryText(text))
        yield ItemDone(output_index=self._index, item=self.item(status))


class FunctionCallBuilder:
    def __init__(self, item_id: str, index: int, call_id: str, tool: ClientTool) -> None:
        self._id = item_id
        self._index = index
        self._call_id = call_id
        self._tool = tool
        self._pieces: list[str] = []

    def item(self, status: ItemStatus) -> OutputFunctionCall:
        arguments = "" if status == "in_progress" else self._arguments()
        namespace = self._tool.namespace or UNSET
        return OutputFunctionCall(self._id, status, self._call_id, self._tool.name, arguments, namespace)

    def opened(self) -> Iterator[StreamEvent]:
        yield ItemAdded(output_index=self._index, item=self.item("in_progress"))

    def appended(self, piece: str) -> Iterator[StreamEvent]:
        self._pieces.append(piece)
        yield ArgumentsDelta(item_id=self._id, output_index=self._index, delta=piece)

    def closed(self, status: ItemStatus) -> Iterator[StreamEvent]:
        if not self._pieces:
            yield ArgumentsDelta(item_id=self._id, output_index=self._index, delta="{}")
        yield ArgumentsDone(item_id=self._id, output_index=self._index, arguments=self._arguments())
        yield ItemDone(output_index=self._index, item=self.item(status))

    def _arguments(self) -> str:
        return "".join(self._pieces) or "{}"


class CustomCallBuilder:
    """A call of a custom tool: its JSON arguments are unwrapped to raw text.

    One that was cut has no `done` events: any text is a valid input, so a client that acts on them would run it.
    """

    def __init__(self, item_id: str, index: int, call_id: str, tool: ClientTool) -> None:
        self._id = item_id
        self._index = index
        self._call_id = call_id
        self._tool = tool
        self._input = CustomInput()

    def item(self, status: ItemStatus) -> OutputCustomCall:
        text = "" if status == "in_progress" else self._input.text
        namespace = self._tool.namespace or UNSET
        return OutputCustomCall(self._id, status, self._call_id, self._tool.name, text, namespace)

    def opened(self) -> Iterator[StreamEvent]:
        yield ItemAdded(output_index=self._index, item=self.item("in_progress"))

    def appended(self, piece: str) -> Iterator[StreamEvent]:
        if text := self._input.feed(piece):
            yield InputDelta(item_id=self._id, output_index=self._index, delta=text)

    def closed(self, status: ItemStatus) -> Iterator[StreamEvent]:
        if rest := self._input.finish(complete=status == "completed"):
            yield InputDelta(item_id=self._id, output_index=self._index, delta=rest)
        if status == "incomplete":
            return
        yield InputDone(item_id=self._id, output_index=self._index, input=self._input.text)
        yield ItemDone(output_index=self._index, item=self.item(status))
