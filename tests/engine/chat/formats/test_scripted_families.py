"""Real templates in real GGUFs: llama.cpp decodes what each template writes, and the worker splits it into events."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from cortex.engine.chat.types import Delta
from cortex.wire.events import ChoiceFinished, Event, Failed, Started, ToolCallEnd
from cortex.wire.inference import InferenceRequest, Reasoning, Sampling, Tool
from cortex.wire.worker import LoadSpec, Unload, Unloaded
from tests.engine.chat.formats.test_families import TOOLS, TURNS, Turn, as_rendered, model, written
from tests.engine.chat.histories import said
from tests.engine.chat.marker_vocabulary import END_MARKERS, markers_in
from tests.engine.chat.splitting.harness import merged
from tests.engine.harness import WorkerProcess, only
from tests.scripted import build_scripted
from tests.templates import template

pytestmark = pytest.mark.model

FAMILIES = [
    "Apertus-8B-Instruct",
    "Apriel-1.6-15b-Thinker-fixed",
    "Bielik-11B-v3.0-Instruct",
    "ByteDance-Seed-OSS",
    "GLM-4.7-Flash",
    "Kimi-K2-Instruct",
    "Kimi-K2-Thinking",
    "MiMo-VL",
    "MiniMax-M2",
    "Mistral-Small-3.2-24B-Instruct-2506",
    "NVIDIA-Nemotron-Nano-v2",
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use",
    "Qwen-Qwen2.5-7B-Instruct",
    "Qwen-Qwen3-0.6B",
    "Spark2.5",
    "deepseek-ai-DeepSeek-V3.1",
    "deepseek-ai-DeepSeek-V3.2",
    "fireworks-ai-llama-3-firefunction-v2",
    "ibm-granite-granite-4.0",
    "meetkai-functionary-medium-v3.1",
    "meta-llama-Llama-3.1-8B-Instruct",
    "mistralai-Ministral-3-14B-Reasoning-2512",
    "muse-glimmer",
    "openai-gpt-oss-120b",
    "poolside-Laguna-XS-2.1",
]
# The mark that selects the script is at the prompt's end; it is whitespace, so the code under test isn't affected.
MARKS = [f"\u2000{blank}" for blank in "\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"]


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerProcess]:
    with WorkerProcess("--cpu-threads", "1") as process:
        yield process


def pieces(text: str, markers: list[str]) -> list[str]:
    """`text` as tokens: markers, words and single characters.

    That is also how llama.cpp's tokenizer cuts it, which a grammar requires where only one continuation is allowed.
    """
    longest_first = sorted(markers, key=len, reverse=True)
    return re.findall("|".join([*map(re.escape, longest_first), r"\w+", r"\W"]), text)


def request(name: str, title: str, mark: str, **more: object) -> InferenceRequest:
    tools = [
        Tool(tool, "A tool.", {"type": "object", "properties": {key: {"type": kind} for key, kind in keys.items()}})
        for tool, keys in TOOLS.items()
    ]
    return InferenceRequest(
        id=f"{name}/{title}",
        model=name,
        messages=[said("user", "Ask")],
        tools=tools,
        template_kwargs={"script_mark": mark},
        reasoning=Reasoning(mode="on"),
        sampling=Sampling(temperature=0.0),
        **more,  # type: ignore[arg-type]
    )


def told(events: list[Event]) -> Turn:
    outcome = merged(event for event in events if isinstance(event, Delta))
    calls = [(name, json.loads(arguments)) for name, arguments in outcome.calls]
    return Turn(outcome.text.strip(), outcome.reasoning.strip(), calls)


def scripted(
    name: str, outputs: dict[str, str], directory: Path, *, prompt: str = "", model: str | None = None
) -> LoadSpec:
    """A model (called `model` or as its template) with the template `name`, plus the mark that a request asks for.

    Long words of `prompt` are tokens, since reading it byte by byte would take most of a test's time.
    """
    source = template(f"{name}.jinja")
    markers = markers_in(source)
    ends = [marker for marker in END_MARKERS if marker in markers]
    words = list(dict.fromkeys(re.findall(r"\w{3,}", prompt)))
    path = build_scripted(
        directory / "m.gguf",
        {mark: pieces(output, markers) for mark, output in outputs.items()},
        template=source + "{% if add_generation_prompt %}{{ script_mark }}{% endif %}",
        control=ends,
        user_defined=[*(marker for marker in markers if marker not in ends), *words],
        context=16384,
    )
    return LoadSpec(model=model or name, path=str(path), context=12288, parallel=1)


@pytest.mark.parametrize("name", FAMILIES)
def test_decoded_turns_come_out_structured(name: str, worker: WorkerProcess, tmp_path: Path) -> None:
    chat = model(f"{name}.jinja")
    outputs = {title: output for title, turn in TURNS.items() if (output := written(chat, turn)) is not None}
    reasoning = chat.detected.reasoning
    asked = chat.prepare(request(name, "x", ""))
    if reasoning and asked.make_splitter(0).in_reasoning:
        outputs = {t: o if reasoning.close in o else f"{reasoning.close}\n\n{o}" for t, o in outputs.items()}
    worker.load(scripted(name, dict(zip(MARKS, outputs.values(), strict=False)), tmp_path, prompt=asked.prompt))
    wrong = {}
    for mark, (title, output) in zip(MARKS, outputs.items(), strict=False):
        events = worker.run(request(name, title, mark))
        assert not isinstance(events[-1], Failed), events[-1]
        expected = as_rendered(chat, TURNS[title], output)
        reason = only(events, ChoiceFinished).reason
        if told(events) != expected or reason != ("tool_calls" if expected.calls else "stop"):
            wrong[title] = (told(events), expected, reason)
    worker.send(Unload(name))
    worker.wait(Unloaded)
    assert not wrong


@pytest.mark.parametrize("limit", [90, 250], ids=["held back", "streaming"])
def test_a_call_cut_by_the_token_limit_ends_there_and_says_so(
    limit: int, worker: WorkerProcess, tmp_path: Path
) -> None:
    name = "Qwen-Qwen3-0.6B"
    words = "word " * 200
    written = f'<tool_call>\n{{"name": "write", "arguments": {{"text": "{words}"}}}}\n</tool_call>'
    worker.load(scripted(name, {MARKS[0]: written}, tmp_path, model="cut"))
    events = worker.run(request("cut", "call", MARKS[0], max_output=limit))
    assert only(events, ChoiceFinished).reason == "length"
    [(kind, tool, arguments)] = merged(event for event in events if isinstance(event, Delta)).segments
    assert (kind, tool) == ("cut call", "write")
    assert f'{{"text": "{words}'.startswith(arguments)
    assert only(events, ToolCallEnd) == ToolCallEnd(0, complete=False)
    worker.send(Unload("cut"))
    worker.wait(Unloaded)


def test_a_cut_before_the_name_is_known_leaves_only_the_reason(worker: WorkerProcess, tmp_path: Path) -> None:
    name = "Qwen-Qwen3-0.6B"
    written = 'So:\n<tool_call>\n{"name": "write", "arguments": {"text": "hi"}}\n</tool_call>'
    worker.load(scripted(name, {MARKS[0]: written}, tmp_path, model="early"))
    events = worker.run(request("early", "call", MARKS[0], max_output=9))
    assert only(events, ChoiceFinished).reason == "length"
    assert told(events) == Turn("So:", calls=[])
    worker.send(Unload("early"))
    worker.wait(Unloaded)


OVER = "{% for m in messages %}<|role|>{{ m.role }}\n{{ m.content }}<|over|>\n{% endfor %}"


@pytest.mark.parametrize("known", [["<|role|>", "<|over|>"], []], ids=["token", "text"])
def test_a_turn_ends_at_the_templates_own_marker(known: list[str], worker: WorkerProcess, tmp_path: Path) -> None:
    """llama.cpp has no reason to take `<|over|>` for an end: its vocabulary doesn't say so."""
    path = build_scripted(
        tmp_path / "m.gguf",
        {MARKS[0]: pieces("Hello.<|over|>\n<|role|>user\nAsk<|over|>", known)},
        template=OVER + "{% if add_generation_prompt %}<|role|>assistant\n{{ script_mark }}{% endif %}",
        control=known,
        context=4096,
    )
    worker.load(LoadSpec(model="over", path=str(path), context=2048, parallel=1))
    events = worker.run(msgspec.structs.replace(request("over", "end", MARKS[0], max_output=60), tools=[]))
    assert told(events) == Turn("Hello.", calls=[])
    assert only(events, ChoiceFinished).reason == "stop"
    worker.send(Unload("over"))
    worker.wait(Unloaded)


def test_a_block_that_is_no_call_comes_out_as_it_was_written(worker: WorkerProcess, tmp_path: Path) -> None:
    """Where the marker is only text there is no grammar, and a model may write anything after it."""
    name = "meta-llama-Llama-3.1-8B-Instruct"
    written = '{"name": "nobody", "parameters": {"a": 1}} and so on'
    worker.load(scripted(name, {MARKS[0]: written}, tmp_path, model="malformed"))
    events = worker.run(request("malformed", "call", MARKS[0]))
    assert told(events) == Turn(written, calls=[])
    assert only(events, ChoiceFinished).reason == "stop"
    worker.send(Unload("malformed"))
    worker.wait(Unloaded)


def test_a_profiles_template_file_is_used_instead_of_the_ggufs(worker: WorkerProcess, tmp_path: Path) -> None:
    spec = scripted("Qwen-Qwen3-0.6B", {MARKS[0]: "Hello."}, tmp_path, model="overridden")
    override = tmp_path / "override.jinja"
    override.write_text("{{ messages[0].content }}{{ script_mark }}")
    worker.load(msgspec.structs.replace(spec, chat_template=str(override)))
    asked = msgspec.structs.replace(request("overridden", "file", MARKS[0]), tools=[])
    events = worker.run(asked)
    assert only(events, Started).prompt_tokens < 16  # BOS, "Ask" and the mark, without Qwen's markup
    assert told(events) == Turn("Hello.", calls=[])
