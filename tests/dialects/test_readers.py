"""Every script reaches every client: re-readings of our streams by the rules of the clients that read them."""

from __future__ import annotations

import pytest

from tests.dialects.adapters_openai import OPENAI_CHAT
from tests.dialects.expectations import READERS, client_calls, end_word
from tests.dialects.harness import stream
from tests.dialects.scripts import SCRIPTS, Script

CASES = [
    pytest.param(name, script, id=f"{name}-{script.name}")
    for name, (dialect, _) in READERS.items()
    for script in SCRIPTS
    # Zed and the AI SDK declare no free-form tools in chat completions, so they never get such calls there.
    if dialect.tells(script) and not (dialect is OPENAI_CHAT and script.tool_kind == "custom")
]


@pytest.mark.parametrize(("name", "script"), CASES)
def test_a_client_understands_what_the_model_said(name: str, script: Script) -> None:
    dialect, read = READERS[name]
    said = read(stream(dialect, script))
    assert said.ended
    if script.failure is not None:
        assert said.error is not None
        assert script.failure.message in said.error
        return
    assert said.error is None
    assert (said.text, said.reasoning) == (script.text, script.reasoning)
    assert said.end == end_word(dialect, script)
    # Zed acts on calls only when told that they are why the model stopped.
    if not (name == "zed-chat" and script.reason != "tool_calls"):
        assert said.calls == client_calls(name, script)
