"""Renders probe conversations and cuts out what the model would have written: detection compares such outputs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from cortex.engine.chat.detection.probe_messages import assistant, try_render, user
from cortex.engine.chat.templates.capabilities import Capabilities
from cortex.engine.chat.templates.reasoning_effort import reasoning_variables
from cortex.engine.chat.templates.template import ChatTemplate, Message
from cortex.engine.chat.vocabulary import Vocabulary
from cortex.wire.inference import Reasoning

__all__ = ["MARKER", "ProbeRenderer", "common_prefix_length", "common_suffix_length"]

MARKER = re.compile(r"<[^<>\s]{1,64}>|\[[^\[\]\s]{1,64}\]|◁[^▷]{1,32}▷")
"""What looks like a marker in rendered text."""

_WINDOW = 80  # characters; no shorter than the longest MARKER


class ProbeRenderer:
    """Renders conversations with one template, reasoning turned on, as its capabilities require."""

    def __init__(self, template: ChatTemplate, capabilities: Capabilities, vocabulary: Vocabulary) -> None:
        self._template = template
        self.capabilities = capabilities
        self._vocabulary = vocabulary
        self._reasoning = reasoning_variables(capabilities, Reasoning(mode="on"))

    def render(self, messages: Sequence[Message], **variables: Any) -> str | None:
        """The rendered conversation; None if the template refuses it."""
        shaped = [self._shaped(message) for message in messages]
        return try_render(self._template, shaped, **{**self._no_tools(), **self._reasoning, **variables})

    def _no_tools(self) -> dict[str, Any]:
        return {"tools": [] if self.capabilities.tools_always else None}

    def _shaped(self, message: Message) -> Message:
        content = message["content"]
        if self.capabilities.text_content or content is None:
            return message
        return {**message, "content": [{"type": "text", "text": content}]}

    def generation_prompt(self) -> str:
        """What the template adds so that the assistant's turn follows ("" if it refuses)."""
        plain = self.render([user()])
        asked = self.render([user()], add_generation_prompt=True)
        if plain is None or asked is None:
            return ""
        return asked[common_prefix_length(asked, plain) :]

    def turn(self, messages: Sequence[Message], **variables: Any) -> str | None:
        """The last message as rendered, with its header and end marker; None if the template refuses."""
        before = self.render(messages[:-1], **variables)
        whole = self.render(messages, **variables)
        if before is None or whole is None:
            return None
        return whole[common_prefix_length(whole, before) :]

    def output(self, message: Message, **variables: Any) -> str | None:
        """The assistant's `message` as the model would write it after the generation prompt; None if the template
        refuses."""
        asked = self.render([user()], add_generation_prompt=True, **variables)
        whole = self.render([user(), message], **variables)
        if asked is None or whole is None:
            return None
        return self._without_end(whole[common_prefix_length(whole, asked) :], **variables)

    def _without_end(self, output: str, **variables: Any) -> str:
        """`output` up to the first end token, or without the end marker of a plain answer."""
        plain = self.turn([user(), assistant("NEEDLE_TEXT")], **variables) or ""
        ending = plain.partition("NEEDLE_TEXT")[2].strip()
        if ending and output.rstrip().endswith(ending):
            output = output.rstrip().removesuffix(ending)
        for token in self._vocabulary.tokenize(output, special=True):
            if self._vocabulary.is_end(token):
                end = self._vocabulary.piece(token).decode("utf-8", "replace")
                return output.partition(end)[0]
        return output


def common_prefix_length(text: str, other: str) -> int:
    """The length of the common prefix, shortened where it would split a marker of either text."""
    length = next((place for place, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), None)
    if length is None:
        return min(len(text), len(other))
    for side in (text, other):
        window = max(0, length - _WINDOW)
        for marker in MARKER.finditer(side, window, length + _WINDOW):
            if marker.start() < length < marker.end():
                length = marker.start()
    return length


def common_suffix_length(text: str, other: str) -> int:
    """The length of the common suffix, shortened where it would split a marker of either text."""
    pairs = enumerate(zip(reversed(text), reversed(other), strict=False))
    length = next((place for place, (a, b) in pairs if a != b), min(len(text), len(other)))
    for side in (text, other):
        for marker in MARKER.finditer(side):
            if marker.start() < len(side) - length < marker.end():
                length = len(side) - marker.end()
    return length
