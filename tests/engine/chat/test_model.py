from __future__ import annotations

import pytest

from cortex.engine.chat.model import ChatModel
from cortex.engine.chat.templates.image_markers import image_marker
from cortex.errors import BadRequest, InvalidSchema, ModelLoadFailed
from cortex.wire.inference import (
    Grammar,
    Image,
    JsonObjectFormat,
    JsonSchemaFormat,
    Reasoning,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
)
from tests.engine.chat.histories import HISTORIES, WEATHER, chat_request, said
from tests.engine.chat.marker_vocabulary import MarkerVocabulary, markers_in
from tests.engine.chat.splitting.harness import merged
from tests.templates import template

ASK = [said("user", "Ask")]


def model_of(name: str, **options: object) -> ChatModel:
    source = template(f"{name}.jinja")
    return ChatModel.from_gguf(source, {}, MarkerVocabulary(markers_in(source)), **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def qwen() -> ChatModel:
    """Hermes calls, `<think>`, and a switch for it."""
    return model_of("Qwen-Qwen3-0.6B")


@pytest.fixture(scope="module")
def bare() -> ChatModel:
    """A GGUF without any template: ChatML, no format of its own."""
    return ChatModel.from_gguf(None, {}, MarkerVocabulary(["<|im_start|>", "<|im_end|>"]))


# ---- tools


def test_a_tool_choice_of_none_hides_the_tools_and_parses_nothing(qwen: ChatModel) -> None:
    prepared = qwen.prepare(chat_request(ASK, WEATHER, tool_choice=ToolChoice("none")))
    assert "get_weather" not in prepared.prompt
    assert prepared.constraint is None
    written = '<tool_call>\n{"name": "get_weather", "arguments": {}}\n</tool_call>'
    splitter = prepared.make_splitter(0)
    deltas = [d for token in qwen.vocabulary.tokenize(written) for d in splitter.feed(token, _text(qwen, token))]
    assert merged([*deltas, *splitter.finish(cut=False)]).calls == []


def _text(model: ChatModel, token: int) -> str:
    return model.vocabulary.piece(token).decode()


def test_required_is_enforced_by_a_grammar(qwen: ChatModel) -> None:
    prepared = qwen.prepare(chat_request(ASK, WEATHER, tool_choice=ToolChoice("required")))
    assert prepared.constraint is not None
    assert prepared.constraint.start in {"now", "after_reasoning"}
    assert "get_weather" in prepared.constraint.lark


def test_a_named_choice_leaves_the_others_out_of_the_grammar_but_not_of_the_prompt(qwen: ChatModel) -> None:
    other = Tool("other_tool")
    choice = ToolChoice("required", only=["get_weather"])
    prepared = qwen.prepare(chat_request(ASK, WEATHER, other, tool_choice=choice))
    assert prepared.constraint is not None
    assert "other_tool" not in prepared.constraint.lark
    assert "other_tool" in prepared.prompt


@pytest.mark.parametrize("choice", [ToolChoice("required", only=["nope"]), ToolChoice("auto", only=["nope"])])
def test_a_choice_that_is_not_offered_is_refused(qwen: ChatModel, choice: ToolChoice) -> None:
    with pytest.raises(BadRequest, match="'nope', which is not in tools"):
        qwen.prepare(chat_request(ASK, WEATHER, tool_choice=choice))


def test_required_without_tools_is_refused(qwen: ChatModel) -> None:
    with pytest.raises(BadRequest, match="there are no tools"):
        qwen.prepare(chat_request(ASK, tool_choice=ToolChoice("required")))


def test_without_a_format_the_model_is_taught_one_and_can_be_made_to_call(bare: ChatModel) -> None:
    prepared = bare.prepare(chat_request([said("system", "SYS"), *ASK], WEATHER, tool_choice=ToolChoice("required")))
    assert prepared.prompt.index("SYS") < prepared.prompt.index('"name": "get_weather"') < prepared.prompt.index("Ask")
    assert "<tool_call>" in prepared.prompt
    assert prepared.constraint is not None
    assert not bare.supports_tools


def test_a_format_the_template_does_not_explain_is_explained_by_its_own_example() -> None:
    model = model_of("deepseek-ai-DeepSeek-V3.1")
    prompt = model.prepare(chat_request(ASK, WEATHER)).prompt
    assert '"name": "get_weather"' in prompt
    assert "<｜tool▁call▁begin｜>probe_tool<｜tool▁sep｜>" in prompt


def test_the_tool_use_variant_is_used_when_there_are_tools() -> None:
    plain = "{% for m in messages %}{{ m.content }}{% endfor %}|plain"
    tools = "{{ tools|tojson }}{% for m in messages %}{{ m.content }}{% endfor %}|tools"
    model = ChatModel.from_gguf(plain, {"tool_use": tools}, MarkerVocabulary())
    assert model.prepare(chat_request(ASK)).prompt.endswith("|plain")
    assert model.prepare(chat_request(ASK, WEATHER)).prompt.endswith("|tools")


def test_an_override_replaces_all_templates() -> None:
    model = ChatModel.from_gguf("a", {"tool_use": "b"}, MarkerVocabulary(), override="{{ messages[0].content }}!")
    assert model.prepare(chat_request(ASK)).prompt == "Ask!"


def test_a_template_that_does_not_compile_fails_the_load() -> None:
    with pytest.raises(ModelLoadFailed, match="doesn't compile"):
        ChatModel.from_gguf("{% if %}", {}, MarkerVocabulary())


# ---- formats


def test_a_json_schema_waits_until_thinking_is_over(qwen: ChatModel) -> None:
    format_ = JsonSchemaFormat({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
    prepared = qwen.prepare(chat_request(ASK, format=format_))
    assert prepared.constraint is not None
    off = qwen.prepare(chat_request(ASK, format=format_, reasoning=Reasoning(mode="off")))
    assert off.constraint is not None
    assert off.constraint.start == "now"
    assert "think" not in off.constraint.lark


def test_a_format_beside_tools_lets_the_model_choose(qwen: ChatModel) -> None:
    prepared = qwen.prepare(chat_request(ASK, WEATHER, format=JsonObjectFormat()))
    assert prepared.constraint is not None
    assert "get_weather" in prepared.constraint.lark


def test_a_grammar_beside_tools_is_refused(qwen: ChatModel) -> None:
    with pytest.raises(BadRequest, match="can't be combined with tools"):
        qwen.prepare(chat_request(ASK, WEATHER, format=Grammar("regex", "a+")))


def test_a_schema_that_does_not_compile_is_refused_by_name(qwen: ChatModel) -> None:
    broken = Tool("t", "", {"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}}, strict=True)
    with pytest.raises(InvalidSchema):
        qwen.prepare(chat_request(ASK, broken, tool_choice=ToolChoice("required")))


# ---- thinking


@pytest.mark.parametrize("wanted", [Reasoning(mode="off"), Reasoning(effort="none"), Reasoning(budget=0)])
def test_thinking_is_turned_off_by_the_templates_switch(qwen: ChatModel, wanted: Reasoning) -> None:
    prepared = qwen.prepare(chat_request(ASK, reasoning=wanted))
    assert prepared.prompt.endswith("<think>\n\n</think>\n\n")
    assert not prepared.make_splitter(0).in_reasoning
    assert prepared.reasoning_budget == 0


def test_thinking_that_the_prompt_always_opens_is_closed_where_none_is_wanted() -> None:
    model = model_of("deepseek-ai-DeepSeek-R1-Distill-Llama-8B")
    assert model.prepare(chat_request(ASK)).make_splitter(0).in_reasoning
    off = model.prepare(chat_request(ASK, reasoning=Reasoning(mode="off")))
    assert off.prompt.endswith("<think>\n\n</think>\n\n")
    assert not off.make_splitter(0).in_reasoning


def test_a_budget_reaches_the_engine(qwen: ChatModel, bare: ChatModel) -> None:
    wanted = Reasoning(mode="on", budget=100)
    assert qwen.prepare(chat_request(ASK, reasoning=wanted)).reasoning_budget == 100
    assert bare.prepare(chat_request(ASK, reasoning=wanted)).reasoning_budget is None


@pytest.mark.parametrize(
    ("name", "effort", "expected"),
    [
        ("openai-gpt-oss-120b", "high", "Reasoning: high"),
        ("openai-gpt-oss-120b", None, "Reasoning: medium"),
        ("Kimi-K3", "minimal", "`thinking_effort=low`"),
        ("Kimi-K3", "medium", "`thinking_effort=low`"),
        ("Kimi-K3", "xhigh", "`thinking_effort=high`"),
        ("muse-glimmer", "low", "Reasoning strength: low"),
    ],
)
def test_effort_is_told_by_the_nearest_word_the_template_takes(name: str, effort: str | None, expected: str) -> None:
    assert expected in model_of(name).prepare(chat_request(ASK, reasoning=Reasoning(effort=effort))).prompt


def test_template_variables_come_from_profile_then_reasoning_then_request(qwen: ChatModel) -> None:
    closed = "<think>\n\n</think>\n\n"
    profiled = model_of("Qwen-Qwen3-0.6B", template_kwargs={"enable_thinking": False})
    assert profiled.prepare(chat_request(ASK)).prompt.endswith(closed)
    assert not profiled.prepare(chat_request(ASK, reasoning=Reasoning(mode="on"))).prompt.endswith(closed)
    request = chat_request(ASK, reasoning=Reasoning(mode="on"), template_kwargs={"enable_thinking": False})
    assert qwen.prepare(request).prompt.endswith(closed)


# ---- continuation


def test_the_final_assistant_message_is_continued_where_it_ends(qwen: ChatModel) -> None:
    history = [said("user", "Count"), said("assistant", "One, two, ")]
    prompt = qwen.prepare(chat_request(history, continue_final=True)).prompt
    assert prompt.endswith("One, two, ")
    assert prompt.count("<|im_start|>assistant") == 1


@pytest.mark.parametrize("name", ["openai-gpt-oss-120b", "Mistral-Small-3.2-24B-Instruct-2506", "google-gemma-2-2b-it"])
def test_continuation_works_in_other_layouts(name: str) -> None:
    history = [said("user", "Count"), said("assistant", "One, two, ")]
    assert model_of(name).prepare(chat_request(history, continue_final=True)).prompt.endswith("One, two, ")


@pytest.mark.parametrize("last", [said("user", "x"), said("assistant", Text("x"), ToolCall("c", "f", "{}"))])
def test_only_plain_assistant_messages_can_be_continued(qwen: ChatModel, last: object) -> None:
    with pytest.raises(BadRequest, match="only a final assistant message"):
        qwen.prepare(chat_request([*ASK, last], continue_final=True))  # type: ignore[list-item]


@pytest.mark.parametrize("begun", ["<think>\nHmm", "<think>", " <think>Well, ", "<think>\nHmm\n"])
def test_a_thought_that_the_client_began_is_reasoning_until_it_closes(qwen: ChatModel, begun: str) -> None:
    prepared = qwen.prepare(chat_request([*ASK, said("assistant", begun)], continue_final=True))
    assert prepared.prompt.endswith(begun)
    splitter = prepared.make_splitter(0)
    deltas = [
        delta
        for token in qwen.vocabulary.tokenize(" so.</think>Yes")
        for delta in splitter.feed(token, qwen.vocabulary.piece(token).decode())
    ]
    assert merged([*deltas, *splitter.finish(cut=False)]).segments == [("reasoning", "so."), ("text", "Yes")]


@pytest.mark.parametrize("begun", ["<think>Hm.</think>So", "Write <think> first", "One"])
def test_any_other_beginning_is_text(qwen: ChatModel, begun: str) -> None:
    prepared = qwen.prepare(chat_request([*ASK, said("assistant", begun)], continue_final=True))
    assert not prepared.make_splitter(0).in_reasoning


def test_a_schema_waits_until_a_begun_thought_is_over(qwen: ChatModel) -> None:
    history = [*ASK, said("assistant", "<think>\nHmm")]
    prepared = qwen.prepare(chat_request(history, continue_final=True, format=JsonObjectFormat()))
    assert prepared.constraint is not None
    assert prepared.constraint.start == "after_reasoning"


# ---- the rest


def test_images_are_for_models_that_see(bare: ChatModel) -> None:
    history = [said("user", "look", Image(b"png"))]
    with pytest.raises(BadRequest, match="takes no images"):
        bare.prepare(chat_request(history))
    seeing = ChatModel.from_gguf(None, {}, MarkerVocabulary(), vision=True).prepare(chat_request(history))
    assert seeing.parts[1:2] == [b"png"]
    assert "".join(part if isinstance(part, str) else image_marker(part) for part in seeing.parts) == seeing.prompt


def test_no_messages_is_the_callers_mistake(qwen: ChatModel) -> None:
    with pytest.raises(BadRequest, match="must not be empty"):
        qwen.prepare(chat_request([]))


def test_a_template_that_refuses_everything_answers_with_its_own_words() -> None:
    model = ChatModel.from_gguf("{{ raise_exception('not today') }}", {}, MarkerVocabulary())
    with pytest.raises(BadRequest, match="not today"):
        model.prepare(chat_request(ASK))


def test_earlier_thinking_is_shown_where_the_template_shows_it(qwen: ChatModel) -> None:
    history = [*ASK, said("assistant", Thinking("HMM"), ToolCall("c", "get_weather", "{}")), *HISTORIES["a call"][2:]]
    assert "HMM" in qwen.prepare(chat_request(history, WEATHER)).prompt


def test_choices_split_independently(qwen: ChatModel) -> None:
    prepared = qwen.prepare(chat_request(ASK))
    first, second = prepared.make_splitter(0), prepared.make_splitter(1)
    token = qwen.vocabulary.tokenize("<think>")[0]
    first.feed(token, "<think>")
    assert first.in_reasoning
    assert not second.in_reasoning
