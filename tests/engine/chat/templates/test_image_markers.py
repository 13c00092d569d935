"""Images keep their places in a prompt, however the template reorders it."""

from __future__ import annotations

import pytest

from cortex.engine.chat.templates.image_markers import collect_images, image_marker, prompt_parts
from cortex.errors import BadRequest
from cortex.wire.inference import Image, Message, Text, ToolResult


def test_images_are_collected_from_messages_and_results_in_order() -> None:
    messages = [
        Message("user", [Text("see"), Image(b"1"), Image(b"2")]),
        Message("tool", [ToolResult("c", [Image(b"3")])]),
    ]
    assert collect_images(messages) == [b"1", b"2", b"3"]


def test_a_prompt_comes_apart_at_its_images() -> None:
    prompt = f"a{image_marker(b'1')}{image_marker(b'2')}b"
    assert prompt_parts(prompt, [b"1", b"2"]) == ["a", b"1", b"2", "b"]


def test_images_follow_the_prompt_where_a_template_changed_their_order() -> None:
    prompt = f"{image_marker(b'2')} and {image_marker(b'1')}"
    assert prompt_parts(prompt, [b"1", b"2"]) == [b"2", " and ", b"1"]


def test_one_image_sent_twice_stands_twice() -> None:
    prompt = f"{image_marker(b'1')} or {image_marker(b'1')}"
    assert prompt_parts(prompt, [b"1", b"1"]) == [b"1", " or ", b"1"]


@pytest.mark.parametrize("text", ["<__media__>", image_marker(b"another"), "<__media_\\d+__>"])
def test_text_that_looks_like_a_marker_is_text(text: str) -> None:
    assert prompt_parts(f"{text}{image_marker(b'1')}", [b"1"]) == [text, b"1"]


def test_an_image_that_the_template_leaves_out_is_not_passed_over() -> None:
    with pytest.raises(BadRequest, match="leaves out image 2"):
        prompt_parts(f"only {image_marker(b'1')}", [b"1", b"2"])
