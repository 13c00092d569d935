"""What a model would have had to write for a template to render it so: the ground of every differential probe."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from cortex.engine.chat.detection.capabilities import Capabilities
from cortex.engine.chat.detection.probe_messages import Message, assistant, try_render, user
from cortex.engine.chat.templates.reasoning_effort import thinking_variables
from cortex.engine.chat.templates.template import ChatTemplate
from cortex.engine.chat.vocabulary import Vocabulary
from cortex.wire.inference import Reasoning

__all__ = ["Rendition", "common_prefix", "realigned"]

_MARKER = re.compile(r"<[^<>\s]{1,64}>|\[[^\[\]\s]{1,64}\]|◁[^▷]{1,32}▷")


class Rendition:
    """Renders probe conversations and cuts the last turn out of them."""

    def __init__(self, template: ChatTemplate, takes: Capabilities, vocabulary: Vocabulary) -> None:
        self._template = template
        self.takes = takes
        self._vocabulary = vocabulary
        self._thinking = thinking_variables(takes, Reasoning(mode="on"))

    def render(self, messages: Sequence[Message], **variables: Any) -> str | None:
        shaped = [self._shaped(message) for message in messages]
        return try_render(self._template, shaped, **{**self._no_tools(), **self._thinking, **variables})

    def _no_tools(self) -> dict[str, Any]:
        return {"tools": [] if self.takes.tools_always else None}

    def _shaped(self, message: Message) -> Message:
        content = message["content"]
        if self.takes.text_content or content is None:
            return message
        return {**message, "content": [{"type": "text", "text": content}]}

    def generation_prompt(self, **variables: Any) -> str:
        """What the template adds so that the assistant speaks next."""
        spoken = self.render([user()], **variables)
        asked = self.render([user()], add_generation_prompt=True, **variables)
        if spoken is None or asked is None:
            return ""
        return asked[realigned(asked, spoken) :]

    def turn(self, messages: Sequence[Message], **variables: Any) -> str | None:
        """The last message as rendered, header and end marker included."""
        before = self.render(messages[:-1], **variables)
        whole = self.render(messages, **variables)
        if before is None or whole is None:
            return None
        return whole[realigned(whole, before) :]

    def output(self, message: Message, **variables: Any) -> str | None:
        """The assistant's `message` as the model would have written it after the generation prompt."""
        asked = self.render([user()], add_generation_prompt=True, **variables)
        whole = self.render([user(), message], **variables)
        if asked is None or whole is None:
            return None
        return self._without_end(whole[realigned(whole, asked) :], **variables)

    def _without_end(self, output: str, **variables: Any) -> str:
        """Cut at the first end token, or where a plain answer's end marker stands."""
        plain = self.turn([user(), assistant("NEEDLE_TEXT")], **variables) or ""
        ending = plain.partition("NEEDLE_TEXT")[2].strip()
        if ending and output.rstrip().endswith(ending):
            output = output.rstrip().removesuffix(ending)
        for token in self._vocabulary.tokenize(output, special=True):
            if self._vocabulary.is_end(token):
                end = self._vocabulary.piece(token).decode("utf-8", "replace")
                return output.partition(end)[0]
        return output


def realigned(text: str, other: str) -> int:
    """The length of the common beginning, moved back where it would split a marker of either."""
    length = next((place for place, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), None)
    if length is None:
        return min(len(text), len(other))
    for side in (text, other):
        window = max(0, length - 80)
        for marker in _MARKER.finditer(side, window, length + 80):
            if marker.start() < length < marker.end():
                length = marker.start()
    return length


def common_prefix(text: str, other: str, *, mirrored: bool = False) -> int:
    """Like `realigned`, for texts that may be given back to front (`mirrored`)."""
    if not mirrored:
        return realigned(text, other)
    length = next((place for place, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), None)
    length = min(len(text), len(other)) if length is None else length
    for side in (text[::-1], other[::-1]):
        for marker in _MARKER.finditer(side):
            if marker.start() < len(side) - length < marker.end():
                length = len(side) - marker.end()
    return length
