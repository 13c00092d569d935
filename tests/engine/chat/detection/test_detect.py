from __future__ import annotations

import json

import pytest

from cortex.engine.chat.detection.roundtrip import run_roundtrip
from cortex.engine.chat.model import ChatModel
from cortex.wire.inference import Tool, ToolChoice
from tests.engine.chat.formats.test_written_grammars import EndingVocabulary, allows
from tests.engine.chat.histories import chat_request, said
from tests.engine.chat.marker_vocabulary import MarkerVocabulary, markers_in
from tests.templates import template, template_names

# Reasoning format, tool format, rendered turns of calls that were read back.
EXPECTED: dict[str, tuple[str | None, str | None, int]] = {
    "Apertus-8B-Instruct": ("inner", "apertus", 2),
    "Apriel-1.6-15b-Thinker-fixed": ("steps", "apriel", 2),
    "Bielik-11B-v3.0-Instruct": ("think", "hermes", 2),
    "ByteDance-Seed-OSS": ("seed_think", "seed", 2),
    "Cohere2MoE": ("start_thinking", "cohere", 2),
    "CohereForAI-c4ai-command-r-plus-tool_use": (None, "command_r", 2),
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use": ("start_thinking", "cohere", 2),
    "GLM-4.6": ("think", "glm", 2),
    "GLM-4.7-Flash": ("think", "glm", 2),
    "GigaChat3-10B-A1.8B": (None, "gigachat", 1),
    "GigaChat3.1-10B-A1.8B": (None, "gigachat_31", 1),
    "HuggingFaceTB-SmolLM3-3B": ("think", None, 0),
    "Kimi-K2-Instruct": (None, "kimi_k2", 2),
    "Kimi-K2-Thinking": ("think", "kimi_k2", 2),
    "Kimi-K3": ("open_think", "kimi_k3", 2),
    "LFM2-8B-A1B": (None, "lfm2", 0),
    "LFM2.5-8B-A1B": ("think", "lfm2", 2),
    "LFM2.5-Instruct": ("think", None, 0),
    "MiMo-VL": (None, "hermes", 2),
    "MiniMax-M1": (None, "minimax_m1", 2),
    "MiniMax-M2": ("think", "minimax_m2", 2),
    "MiniMax-M3": ("mm_think", "minimax_m3", 2),
    "Mistral-Small-3.2-24B-Instruct-2506": (None, "mistral_call_id", 2),
    "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": ("think", "qwen3_coder", 2),
    "NVIDIA-Nemotron-Nano-v2": ("think", "nemotron", 2),
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use": (None, "hermes", 2),
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": (None, "hermes", 2),
    "Qwen-QwQ-32B": ("think", "hermes", 2),
    "Qwen-Qwen2.5-7B-Instruct": (None, "hermes", 2),
    "Qwen-Qwen3-0.6B": ("think", "hermes", 2),
    "Qwen3-Coder": (None, "qwen3_coder", 2),
    "Qwen3.5-4B": ("think", "qwen3_coder", 2),
    "Reka-Edge": ("think", "hermes", 2),
    "Spark2.5": ("think", "glm", 2),
    "StepFun3.5-Flash": ("think", "qwen3_coder", 2),
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": ("think", "deepseek_r1", 2),
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": ("think", "deepseek_r1", 2),
    "deepseek-ai-DeepSeek-V3.1": ("think", "deepseek_v31", 2),
    "deepseek-ai-DeepSeek-V3.2": ("think", "dsml", 2),
    "deepseek-ai-DeepSeek-V4-Flash-0731": ("think", "dsml_calls", 2),
    "deepseek-ai-DeepSeek-V4": ("think", "dsml_calls", 2),
    "fireworks-ai-llama-3-firefunction-v2": (None, "firefunction", 2),
    "google-gemma-2-2b-it": (None, None, 0),
    "google-gemma-4-31B-it-interleaved": ("channel_thought", "gemma4", 2),
    "google-gemma-4-31B-it": ("channel_thought", "gemma4", 2),
    "ibm-granite-granite-3.3-2B-Instruct": ("think", "granite", 0),
    "ibm-granite-granite-4.0": (None, "hermes", 2),
    "ibm-granite-granite-4.1": (None, "hermes", 2),
    "inclusionai-ling-3.0-flash": ("think", "glm", 2),
    "llama-cpp-deepseek-r1": ("think", "deepseek_r1", 0),
    "llama-cpp-rwkv-world": ("think", None, 0),
    "meetkai-functionary-medium-v3.1": (None, "functionary_31", 2),
    "meetkai-functionary-medium-v3.2": (None, "functionary_32", 2),
    "meta-llama-Llama-3.1-8B-Instruct": (None, "llama3", 1),
    "meta-llama-Llama-3.2-3B-Instruct": (None, "llama3", 1),
    "meta-llama-Llama-3.3-70B-Instruct": (None, "llama3", 1),
    "microsoft-Phi-3.5-mini-instruct": (None, None, 0),
    "mistralai-Ministral-3-14B-Reasoning-2512": ("bracket_think", "mistral_args", 2),
    "mistralai-Mistral-Nemo-Instruct-2407": (None, "mistral", 2),
    "moonshotai-Kimi-K2": (None, "kimi_k2", 2),
    "muse-glimmer": ("to_self", "atem", 2),
    "openai-gpt-oss-120b": ("channels", "harmony", 1),
    "openbmb-MiniCPM5-1B": ("think", "minicpm5", 2),
    "poolside-Laguna-S-2.1": ("think", "glm", 2),
    "poolside-Laguna-XS-2.1": ("think", "glm", 2),
    "poolside-Laguna-XS.2": ("think", "glm", 2),
    "tencent-Hy3": ("generic", "hy3", 2),
    "unsloth-Apriel-1.5": ("steps", "apriel", 2),
    "unsloth-mistral-Devstral-Small-2507": (None, "mistral_args", 2),
    "upstage-Solar-Open-100B": ("generic", "solar", 2),
}


def test_every_template_is_in_the_table() -> None:
    assert set(template_names()) == {f"{name}.jinja" for name in EXPECTED}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_formats_of_every_template_are_detected(name: str) -> None:
    source = template(f"{name}.jinja")
    report = ChatModel.from_gguf(source, {}, MarkerVocabulary(markers_in(source))).report(name)
    reasoning, tools, turns = EXPECTED[name]
    assert (report.reasoning_format, report.tool_format) == (reasoning, tools)
    evidence = [line for line in report.evidence if not line.startswith("end of turn")]
    assert len(evidence) == (reasoning is not None) + (tools is not None)
    if turns:
        assert report.self_test.startswith(f"passed: {turns} rendered turns")


HEAD = "{% if tools %}{{ tools|tojson }}{% endif %}{% for m in messages %}{{ '«' + m.role + '»' }}"
REASONING = "{% if m.reasoning_content %}{{ '<ponder>' + m.reasoning_content + '</ponder>' }}{% endif %}"
TAIL = "{{ '«end»' }}{% endfor %}{% if add_generation_prompt %}{{ '«assistant»' }}{% endif %}"
INVENTED = {
    "json": "{% for c in m.tool_calls or [] %}{{ '<<do>>' + "
    '{"tool": c.function.name, "with": c.function.arguments}|tojson + "<</do>>" }}{% endfor %}',
    "json array": "{% if m.tool_calls %}{{ '<|acts|>[' }}{% for c in m.tool_calls %}{{ "
    '{"tool": c.function.name, "with": c.function.arguments}|tojson + ("" if loop.last else ", ") }}'
    "{% endfor %}{{ ']<|/acts|>' }}{% endif %}",
    "name and json": "{% if m.tool_calls %}{{ '<|acts|>' }}{% for c in m.tool_calls %}"
    "{{ '<|act|>' + c.function.name + '<|with|>' + c.function.arguments|tojson + '<|done|>' }}"
    "{% endfor %}{{ '<|/acts|>' }}{% endif %}",
    "tags": "{% for c in m.tool_calls or [] %}{{ '<act ' + c.function.name + '>' }}"
    "{% for k, v in c.function.arguments.items() %}{{ '<arg ' + k + '>' + v|string + '</arg>' }}{% endfor %}"
    "{{ '</act>' }}{% endfor %}",
}
# Markers that are mere text, and none at all, after text on a line of their own.
MERE_TEXT = {
    "a word": "{% for c in m.tool_calls or [] %}{{ 'Use tool: ' + ({'tool': c.function.name, "
    "'with': c.function.arguments}|tojson) }}{% endfor %}",
    "words around the name": "{% for c in m.tool_calls or [] %}{{ '\nCALL ' + c.function.name + ' WITH ' + "
    "(c.function.arguments|tojson) + ' END' }}{% endfor %}",
    "lines": "{% for c in m.tool_calls or [] %}{{ '\nAction: ' + c.function.name + '\nInput: ' + "
    "(c.function.arguments|tojson) }}{% endfor %}",
    "a fence": "{% for c in m.tool_calls or [] %}{{ '\n```tool\n' + ({'name': c.function.name, "
    "'arguments': c.function.arguments}|tojson) + '\n```' }}{% endfor %}",
    "a section": "{% if m.tool_calls %}{{ 'BEGIN\n' }}{% for c in m.tool_calls %}{{ ({'tool': c.function.name, "
    "'input': c.function.arguments}|tojson) + '\n' }}{% endfor %}{{ 'END' }}{% endif %}",
    "nothing": "{% for c in m.tool_calls or [] %}{{ '\n' + ({'name': c.function.name, "
    "'arguments': c.function.arguments}|tojson) }}{% endfor %}",
    "tags": "{% for c in m.tool_calls or [] %}{{ '((call ' + c.function.name + '))' }}"
    "{% for k, v in c.function.arguments.items() %}{{ '((arg ' + k + '))' + v|string + '((/arg))' }}{% endfor %}"
    "{{ '((/call))' }}{% endfor %}",
}
NOTE = Tool("note", "", {"type": "object", "properties": {"text": {"type": "string"}, "count": {"type": "integer"}}})


@pytest.mark.parametrize("kind", INVENTED)
@pytest.mark.parametrize("as_tokens", [True, False])
def test_markers_nobody_has_heard_of_are_found_in_the_template_alone(kind: str, as_tokens: bool) -> None:
    source = HEAD + REASONING + "{{ m.content or '' }}" + INVENTED[kind] + TAIL
    vocabulary = MarkerVocabulary(markers_in(source) if as_tokens else [], ends=["«end»"])
    model = ChatModel.from_gguf(source, {}, vocabulary)
    detected = model.detected
    assert detected.reasoning is not None
    assert (detected.reasoning.open, detected.reasoning.close) == ("<ponder>", "</ponder>")
    assert detected.tool_format is not None
    assert detected.tool_format.name == "generic"
    assert model.supports_tools
    assert model.supports_reasoning
    assert detected.example is not None
    written = "<ponder>so</ponder>" + detected.example.replace("probe_tool", "note").replace("first_key", "text")
    outcome = run_roundtrip(
        written.replace("second_key", "count"), model.markers, detected.reasoning, detected.tool_format, [NOTE]
    )
    assert outcome.reasoning == "so"
    assert outcome.text == ""
    assert [(name, json.loads(arguments)) for name, arguments in outcome.calls] == [
        ("note", {"text": "some value", "count": 42})
    ]


@pytest.mark.parametrize("kind", MERE_TEXT)
def test_calls_after_text_are_found_where_the_marker_is_mere_text_and_the_grammar_accepts_them(kind: str) -> None:
    source = HEAD + "{{ m.content or '' }}" + MERE_TEXT[kind] + TAIL
    model = ChatModel.from_gguf(source, {}, EndingVocabulary(["«end»"]))
    tool_format, example = model.detected.tool_format, model.detected.example
    assert tool_format is not None
    assert example is not None
    written = example.replace("probe_tool", "note").replace("first_key", "text").replace("second_key", "count")
    outcome = run_roundtrip(f"I will.{written}", model.markers, None, tool_format, [NOTE])
    assert outcome.text.strip() == "I will."
    assert [(name, json.loads(arguments)) for name, arguments in outcome.calls] == [
        ("note", {"text": "some value", "count": 42})
    ]
    required = model.prepare(chat_request([said("user", "Ask")], NOTE, tool_choice=ToolChoice("required"))).constraint
    assert required is not None
    assert allows(model, required.lark, written.strip())


def test_without_a_template_any_model_gets_chatml_and_no_formats() -> None:
    model = ChatModel.from_gguf(None, {}, MarkerVocabulary())
    assert not model.supports_tools
    assert not model.supports_reasoning


def test_the_vocabulary_alone_tells_markers_that_are_tokens() -> None:
    vocabulary = MarkerVocabulary(["<think>", "</think>", "<tool_call>", "</tool_call>"])
    report = ChatModel.from_gguf(None, {}, vocabulary).report("m")
    assert (report.reasoning_format, report.tool_format) == ("think", "hermes")
    assert all("single tokens" in line for line in report.evidence)


def test_the_profile_overrides_what_is_found() -> None:
    source = template("Qwen-Qwen3-0.6B.jinja")
    vocabulary = MarkerVocabulary(markers_in(source))
    model = ChatModel.from_gguf(source, {}, vocabulary, reasoning_format="none", tool_format="qwen3_coder")
    report = model.report("m")
    assert (report.reasoning_format, report.tool_format) == (None, "qwen3_coder")
    assert "the profile says" in report.evidence[-1]


REMOVAL = "{% if m.role == 'assistant' %}{% set content = content.split('((/musing))')[-1] %}{% endif %}"
MUSING = HEAD + "{% set content = m.content %}" + REMOVAL + "{{ content }}" + TAIL


def test_reasoning_that_the_template_only_removes_from_earlier_answers_is_found() -> None:
    vocabulary = MarkerVocabulary(markers_in(MUSING), ends=["«end»"])
    chat = ChatModel.from_gguf(MUSING, {}, vocabulary)
    assert chat.detected.reasoning is not None
    assert (chat.detected.reasoning.open, chat.detected.reasoning.close) == ("((musing))", "((/musing))")
    found = run_roundtrip("((musing))\nHm.\n((/musing))\n\nYes.", chat.markers, chat.detected.reasoning, None, [])
    assert (found.reasoning, found.text) == ("Hm.", "Yes.")


def test_a_string_of_the_source_that_removes_nothing_is_no_reasoning() -> None:
    source = MUSING.replace("content.split('((/musing))')[-1]", "content ~ ('((/musing))' in content)")
    assert ChatModel.from_gguf(source, {}, MarkerVocabulary()).detected.reasoning is None


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ('I will.\n{"name": "f", "parameters": {"a": 1}}', [("f", '{"a": 1}')]),
        ('{"name": "f", "parameters": {"a": 1}}', [("f", '{"a": 1}')]),
        ('For example:\n{"name": "unknown", "parameters": {}}\nDone.', []),
        ('Write {"name": "f", "parameters": {}} there.', []),
    ],
)
def test_a_call_without_a_marker_may_follow_text_on_a_line_of_its_own(text: str, calls: list[tuple[str, str]]) -> None:
    chat = ChatModel.from_gguf(None, {}, MarkerVocabulary(), tool_format="llama3")
    tool_format = chat.detected.tool_format
    found = run_roundtrip(text, chat.markers, None, tool_format, [Tool("f", "", {"type": "object"})])
    assert found.calls == calls
    assert found.text == (text if not calls else "I will." if text.startswith("I") else "")


def test_a_list_of_calls_without_a_marker_may_follow_text_too() -> None:
    chat = ChatModel.from_gguf(None, {}, MarkerVocabulary(), tool_format="pythonic")
    tools = [Tool("f", "", {"type": "object"})]
    found = run_roundtrip("Yes.\n[f(a=1)]", chat.markers, None, chat.detected.tool_format, tools)
    assert (found.text, found.calls) == ("Yes.", [("f", '{"a": 1}')])
    plain = "See:\n[a link](https://example.org)\n[ ] to do"
    assert run_roundtrip(plain, chat.markers, None, chat.detected.tool_format, tools).text == plain
