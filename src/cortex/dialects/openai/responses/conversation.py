"""Input items of the Responses API to wire messages.

Items are a flat list: reasoning, text and calls of one assistant turn are separate items, and other items may stand
between a call and its output. Chat templates expect turns: one assistant message with all its parts, the results
directly after it, then the rest (openai's Python SDK 3.54, `types/responses/response_input_item_param.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any, get_args

import msgspec
from msgspec import Raw

from cortex.dialects.custom_tools import wrap_input
from cortex.dialects.documents import data_uri_file
from cortex.dialects.history import begins, made_of_parts, newest_input, object_arguments, omitted, plain_text, texts_in
from cortex.dialects.images import Images
from cortex.dialects.json_body import decode_body
from cortex.dialects.opaque_reasoning import decode_opaque
from cortex.dialects.openai.responses.body import (
    ContentPart,
    CustomCallItem,
    CustomOutputItem,
    FunctionCallItem,
    FunctionOutputItem,
    InputItem,
    ItemKind,
    MessageItem,
    ReasoningItem,
)
from cortex.dialects.openai.responses.tools import Toolbox
from cortex.errors import BadRequest, UnsupportedValue
from cortex.wire.inference import Image, Message, Part, Text, Thinking, ToolCall, ToolResult

__all__ = ["read_conversation", "read_items"]

logger = logging.getLogger(__name__)

_ANY: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
_RAWS = msgspec.json.Decoder(list[Raw])
_PART = msgspec.json.Decoder(ContentPart)
_KIND = msgspec.json.Decoder(ItemKind)
_ITEM: msgspec.json.Decoder[InputItem] = msgspec.json.Decoder(InputItem)
_MESSAGE = msgspec.json.Decoder(MessageItem)
_KNOWN = {type_.__struct_config__.tag for type_ in get_args(InputItem)}

CallOutput = FunctionOutputItem | CustomOutputItem


def read_items(raws: Iterable[Raw], param: str) -> list[InputItem]:
    """The items of known types; others (web searches, compactions, shell calls …) are skipped. Raises BadRequest."""
    items: list[InputItem] = []
    for index, raw in enumerate(raws):
        at = f"{param}[{index}]"
        kind = decode_body(_KIND, raw, at)
        if kind.type is None:
            items.append(decode_body(_MESSAGE, raw, at))
        elif kind.type in _KNOWN:
            items.append(decode_body(_ITEM, raw, at))
        else:
            logger.debug("skipping input item of unknown type %s", kind.type)
    return items


def read_conversation(items: Sequence[InputItem], toolbox: Toolbox, images: Images) -> list[Message]:
    """The items as messages. Raises UnsupportedValue for new content of an unknown type,
    BadRequest for content that can't be decoded."""
    reader = _Reader(items, toolbox, images)
    newest = newest_input([_role(item) for item in items])
    for index, item in enumerate(items):
        reader.read(item, new=index == newest)
    reader.end_turn()
    return reader.messages


def _role(item: InputItem) -> str:
    match item:
        case MessageItem():
            return item.role
        case FunctionOutputItem() | CustomOutputItem():
            return "tool"
        case _:
            return "assistant"


class _Reader:
    """`_turn` collects the parts of the current assistant message. `_outputs` holds the outputs that no call has taken
    yet, by call id."""

    def __init__(self, items: Sequence[InputItem], toolbox: Toolbox, images: Images) -> None:
        self.messages: list[Message] = []
        self._toolbox = toolbox
        self._images = images
        self._turn: list[Part] = []
        self._outputs: dict[str, list[CallOutput]] = {}
        for item in items:
            if isinstance(item, CallOutput):
                self._outputs.setdefault(str(item.call_id), []).append(item)

    def read(self, item: InputItem, *, new: bool) -> None:
        """`new`: the item is the user's newest message, of which what can't be read is an error."""
        match item:
            case MessageItem(role="assistant"):
                self._turn += self._content(item.content, new=False)
            case MessageItem():
                self.end_turn()
                self._add(Message(item.role, list(self._content(item.content, new=new))))
            case ReasoningItem():
                self._turn += _thinking(item)
            case FunctionCallItem():
                name = self._toolbox.shown_name(item.name, item.namespace)
                self._turn.append(ToolCall(str(item.call_id), name, object_arguments(item.arguments)))
            case CustomCallItem():
                name = self._toolbox.shown_name(item.name, item.namespace)
                self._turn.append(ToolCall(str(item.call_id), name, wrap_input(plain_text(item.input))))
            case FunctionOutputItem() | CustomOutputItem():
                self.end_turn()
                self._orphan(item)

    def end_turn(self) -> None:
        """Adds the assistant's message and, directly after it, the results of its calls, wherever their items are."""
        turn, self._turn = self._turn, []
        self._add(Message("assistant", turn))
        calls = [part for part in turn if isinstance(part, ToolCall)]
        self._add(Message("tool", [result for call in calls for result in self._results(call)]))

    def _results(self, call: ToolCall) -> list[ToolResult]:
        outputs = self._outputs.get(call.id)
        return [self._result(outputs.pop(0), call.name)] if outputs else []

    def _orphan(self, item: CallOutput) -> None:
        """Adds an output that has no call before it (in a truncated history), unless a call has already taken it."""
        waiting = self._outputs.get(str(item.call_id), [])
        if any(other is item for other in waiting):
            waiting.remove(item)
            self._add(Message("tool", [self._result(item, None)]))

    def _result(self, item: CallOutput, name: str | None) -> ToolResult:
        if begins(item.output, b"[") and made_of_parts(raws := decode_body(_RAWS, item.output, "input")):
            return ToolResult(str(item.call_id), [self._output_part(raw) for raw in raws], name)
        text = plain_text(decode_body(_ANY, item.output, "input"))
        return ToolResult(str(item.call_id), [Text(text)] if text.strip() else [], name)

    def _output_part(self, raw: Raw) -> Text | Image:
        """A part of an output; one that can't be read as a part is shown as JSON."""
        try:
            part = decode_body(_PART, raw, "input")
        except BadRequest:
            return Text(plain_text(decode_body(_ANY, raw, "input")))
        return self._part(part, new=False)

    def _add(self, message: Message) -> None:
        if message.parts:
            self.messages.append(message)

    def _content(self, content: str | list[ContentPart] | None, *, new: bool) -> list[Text | Image]:
        """The text and images of `content`. Blank text is dropped."""
        if isinstance(content, str):
            content = [ContentPart(text=content)]
        parts = [self._part(part, new=new) for part in content or []]
        return [part for part in parts if not isinstance(part, Text) or part.text.strip()]

    def _part(self, part: ContentPart, *, new: bool) -> Text | Image:
        match part.type:
            case "input_text" | "output_text" | "text" | "summary_text" | "reasoning_text":
                return Text(part.text or "")
            case "refusal":
                return Text(part.refusal or "")
            case "input_image" | "image_url" if part.image_url:
                url = part.image_url if isinstance(part.image_url, str) else part.image_url.url
                return self._images.load(url, "input", new=new)
            case "input_file" if part.file_data:
                return data_uri_file(part.file_data, part.filename, "input", new=new)
            case other if new:
                raise UnsupportedValue(f"content of type {other!r} is not supported", param="input")
            case other:
                return Text(part.text or omitted(other.removeprefix("input_"), part.filename))


def _thinking(item: ReasoningItem) -> list[Thinking]:
    """The reasoning text: from our own `encrypted_content` if the client kept it, else from `content` or `summary`."""
    opaque = item.encrypted_content if isinstance(item.encrypted_content, str) else ""
    text = decode_opaque(opaque) or "\n\n".join(texts_in(item.content) or texts_in(item.summary))
    return [Thinking(text)] if text else []
