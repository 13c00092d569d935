"""The openai SDK reads every script's chat completion and completion as what the model said, streamed and not."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion

from cortex.dialects.custom_tools import unwrap_input
from tests.dialects.adapters_openai import OPENAI_CHAT, OPENAI_COMPLETIONS
from tests.dialects.expectations import end_word
from tests.dialects.harness import collect, stream
from tests.dialects.scripts import SCRIPTS, Script
from tests.dialects.sdk import openai_client

GOOD = [script for script in SCRIPTS if script.failure is None]
BAD = [script for script in SCRIPTS if script.failure is not None]
TEXT = [script for script in GOOD if OPENAI_COMPLETIONS.tells(script)]
QUESTION: dict[str, Any] = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}]}


def check(completion: ChatCompletion, script: Script) -> None:
    choice = completion.choices[0]
    assert (choice.message.content or "") == script.text
    assert getattr(choice.message, "reasoning_content", None) == (script.reasoning or None)
    calls: list[tuple[str, str]] = []
    for call in choice.message.tool_calls or []:
        if call.type == "custom":
            calls.append((call.custom.name, call.custom.input))
        else:
            calls.append((call.function.name, call.function.arguments))
    custom = script.tool_kind == "custom"
    assert calls == [(name, unwrap_input(text) if custom else text) for name, text in script.calls]
    assert choice.finish_reason == end_word(OPENAI_CHAT, script)
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.total_tokens) == (
        42,
        42 + completion.usage.completion_tokens,
    )


# The helper accumulates free-form calls of a chat stream only as extra fields: read from the chunks below.
@pytest.mark.parametrize("script", [s for s in GOOD if s.tool_kind != "custom"], ids=lambda script: script.name)
def test_streamed_chat_accumulates_to_what_was_said(script: Script) -> None:
    with openai_client(stream(OPENAI_CHAT, script)).chat.completions.stream(**QUESTION) as events:
        events.until_done()  # get_final_completion would raise for a cut answer
        check(events.current_completion_snapshot, script)


def test_a_streamed_free_form_call_concatenates_to_its_raw_input() -> None:
    script = next(script for script in GOOD if script.tool_kind == "custom")
    pieces: list[dict[str, Any]] = []
    with openai_client(stream(OPENAI_CHAT, script)).chat.completions.create(**QUESTION, stream=True) as chunks:
        for chunk in chunks:
            for choice in chunk.choices:
                pieces += [call.to_dict()["custom"] for call in choice.delta.tool_calls or []]  # type: ignore[misc]
    assert pieces[0]["name"] == "apply_patch"
    assert "".join(piece["input"] for piece in pieces) == unwrap_input(script.calls[0][1])


@pytest.mark.parametrize("script", GOOD, ids=lambda script: script.name)
def test_collected_chat_is_what_was_said(script: Script) -> None:
    body = collect(OPENAI_CHAT, script)
    check(openai_client(body).chat.completions.create(**QUESTION), script)
    ChatCompletion.model_validate_json(body, strict=True)


@pytest.mark.parametrize("script", TEXT, ids=lambda script: script.name)
def test_completions_are_what_was_said(script: Script) -> None:
    body = collect(OPENAI_COMPLETIONS, script)
    collected = openai_client(body).completions.create(model="demo", prompt="Hi")
    assert collected.choices[0].text == script.text
    Completion.model_validate_json(body, strict=True)
    with openai_client(stream(OPENAI_COMPLETIONS, script)).completions.create(
        model="demo", prompt="Hi", stream=True
    ) as chunks:
        assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == script.text


@pytest.mark.parametrize("script", BAD, ids=lambda script: script.name)
def test_a_failure_in_mid_stream_raises_with_our_message(script: Script) -> None:
    assert script.failure is not None
    client = openai_client(stream(OPENAI_CHAT, script))
    with (
        pytest.raises(openai.APIError, match=script.failure.message.split("(")[0]),
        client.chat.completions.stream(**QUESTION) as events,
    ):
        events.until_done()


@pytest.mark.parametrize("script", BAD, ids=lambda script: script.name)
def test_a_failure_before_the_answer_raises_with_our_message(script: Script) -> None:
    assert script.failure is not None
    status = script.failure.to_error().status
    client = openai_client(collect(OPENAI_CHAT, script), status)
    with pytest.raises(openai.APIStatusError, match=script.failure.message.split("(")[0]) as raised:
        client.chat.completions.create(**QUESTION)
    assert raised.value.status_code == status
    assert raised.value.code == script.failure.code
