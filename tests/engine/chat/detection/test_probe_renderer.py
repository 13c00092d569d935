"""What detection cuts out of rendered conversations."""

from __future__ import annotations

import pytest

from cortex.engine.chat.detection.capabilities import detect_capabilities
from cortex.engine.chat.detection.probe_messages import assistant, user
from cortex.engine.chat.detection.probe_renderer import ProbeRenderer, common_prefix_length, common_suffix_length
from cortex.engine.chat.templates.template import FALLBACK, ChatTemplate
from tests.engine.chat.marker_vocabulary import MarkerVocabulary


@pytest.mark.parametrize(
    ("text", "other", "expected"),
    [
        ("abcd", "abxy", 2),
        ("abc", "abc", 3),
        ("a<|x|>b", "a<|y|>b", 1),  # not inside a marker
        ("", "a", 0),
    ],
)
def test_a_common_prefix_splits_no_marker(text: str, other: str, expected: int) -> None:
    assert common_prefix_length(text, other) == expected
    assert common_prefix_length(other, text) == expected


@pytest.mark.parametrize(
    ("text", "other", "expected"),
    [("abcd", "xycd", 2), ("abc", "abc", 3), ("a<|x|>b", "a<|xx|>b", 1), ("", "a", 0)],
)
def test_a_common_suffix_splits_no_marker(text: str, other: str, expected: int) -> None:
    assert common_suffix_length(text, other) == expected
    assert common_suffix_length(other, text) == expected


def test_turns_and_outputs_are_cut_out_of_the_rendered_conversation() -> None:
    template = ChatTemplate(FALLBACK)
    vocabulary = MarkerVocabulary(["<|im_start|>", "<|im_end|>"])
    renderer = ProbeRenderer(template, detect_capabilities(template), vocabulary)
    assert renderer.generation_prompt() == "<|im_start|>assistant\n"
    assert renderer.turn([user(), assistant("Hello")]) == "<|im_start|>assistant\nHello<|im_end|>\n"
    assert renderer.output(assistant("Hello")) == "Hello"
