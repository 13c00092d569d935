"""The grammars of tool calls: what they allow, the family's parser reads as valid calls."""

from __future__ import annotations

import codecs
import json
import random
import re
from collections.abc import Iterator, Sequence

import jsonschema
import numpy as np
import pytest
from llguidance import LLMatcher

from cortex.engine.chat.formats.atem import Atem
from cortex.engine.chat.formats.base import ToolFormat
from cortex.engine.chat.formats.families import FAMILIES, family_by_name
from cortex.engine.chat.formats.json_families import HERMES
from cortex.engine.chat.formats.tagged_grammar import TaggedMarkup
from cortex.engine.chat.splitting.markers import MarkerTable, ReasoningFormat
from cortex.engine.chat.splitting.splitter import MessageSplitter, SplitPlan
from cortex.engine.chat.tool_grammar import after_reasoning, tool_constraint
from cortex.engine.chat.types import ConstraintSpec, Delta
from cortex.errors import InvalidSchema
from cortex.wire.inference import Tool, ToolChoice
from tests.engine.chat.byte_vocabulary import ByteVocabulary
from tests.engine.chat.formats.test_formats import CHANNELS
from tests.engine.chat.splitting.harness import THINK, Outcome, merged

REQUIRED = ToolChoice("required")
AUTO = ToolChoice("auto")
TOOLS = [
    Tool(
        name="edit",
        parameters={
            "type": "object",
            "properties": {
                "mode": {"enum": ["read", "write"]},
                "line": {"type": "integer", "minimum": 1, "maximum": 99},
                "force": {"type": "boolean"},
                "place": {
                    "type": "object",
                    "properties": {"x": {"type": "integer", "maximum": 9, "minimum": 0}},
                    "required": ["x"],
                    "additionalProperties": False,
                },
                "marks": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
            },
            "required": ["mode", "line"],
            "additionalProperties": False,
        },
    ),
    Tool(name="edit_all", parameters={"type": "object", "properties": {}, "additionalProperties": False}),
]
_STEPS = 2000


class NoEnd(Exception):
    """The walk was still inside a value after all its steps."""


class Walk:
    """A model that writes at random what a grammar allows, and prefers to end values."""

    def __init__(
        self, spec: ConstraintSpec, vocabulary: ByteVocabulary, seed: int, closers: Sequence[str] = ()
    ) -> None:
        self._vocabulary = vocabulary
        self._matcher = LLMatcher(vocabulary.for_llguidance(), LLMatcher.grammar_from_lark(spec.lark))
        assert not self._matcher.is_error(), self._matcher.get_error()
        self._random = random.Random(seed)
        rules = [line for line in spec.lark.splitlines() if not line.startswith("R")]  # all but regular expressions
        self._literals = [json.loads(text) for text in re.findall(r'(?<= )"(?:[^"\\]|\\.)+"', "\n".join(rules))]
        self._literals += re.findall(r'suffix="([^"]+)"', spec.lark)
        self._closers = closers
        self._planned: list[int] = []
        self._steps = 0

    def allows(self, text: str) -> bool:
        """Whether the whole of `text` may be written, and then the output ended."""
        self._matcher.reset()
        tokens = self._vocabulary.tokenize(text)
        return self._matcher.try_consume_tokens(tokens) == len(tokens) and self._matcher.is_accepting()

    def tokens(self) -> Iterator[int]:
        self._matcher.reset()
        for _ in range(_STEPS):
            if self._matcher.is_stopped():
                return
            token = self._choose()
            if token == self._vocabulary.eos:
                return
            assert self._matcher.consume_token(token)
            yield token
        raise NoEnd

    def _choose(self) -> int:
        allowed = self._allowed()
        if self._planned and self._planned[0] in allowed:
            return self._planned.pop(0)
        self._planned = []
        if self._vocabulary.eos in allowed and self._random.random() < 0.5:
            return self._vocabulary.eos
        self._steps += 1
        hurry = self._closers and self._steps > 100
        if self._random.random() < (0.7 if hurry else 0.2):
            # Text ends only at a marker, which single characters would hardly ever spell.
            planned = self._vocabulary.tokenize(self._random.choice(self._closers if hurry else self._literals))
            if planned and planned[0] in allowed:
                self._planned = planned[1:]
                return planned[0]
        closing = [token for token in allowed if token >= 256 or chr(token) in '"}]<>\n,)']
        return self._random.choice(closing if closing and self._random.random() < 0.7 else allowed)

    def _allowed(self) -> list[int]:
        mask = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        allowed: list[int] = np.flatnonzero(np.unpackbits(mask, bitorder="little")).tolist()
        assert allowed
        return allowed


def plan_of(
    form: ToolFormat,
    spec: ConstraintSpec,
    markers: MarkerTable,
    reasoning: ReasoningFormat | None,
    tools: Sequence[Tool] = TOOLS,
) -> SplitPlan:
    return SplitPlan(markers, reasoning, form, tuple(tools), constraint_start=spec.start)


def outcome_of(plan: SplitPlan, tokens: Iterator[int], vocabulary: ByteVocabulary) -> Outcome:
    splitter = MessageSplitter(plan)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    deltas: list[Delta] = []
    for token in tokens:
        shown = vocabulary.piece(token).decode() if token >= 256 else decoder.decode(vocabulary.piece(token))
        deltas += splitter.feed(token, shown)
    return merged([*deltas, *splitter.finish(cut=False)])


def made(
    form: ToolFormat,
    choice: ToolChoice,
    *,
    parallel: bool | None = None,
    reasoning: ReasoningFormat | None = None,
    tools: Sequence[Tool] = TOOLS,
    as_tokens: bool = True,
) -> tuple[ConstraintSpec | None, MarkerTable, ByteVocabulary]:
    atoms = [*form.special_tokens, *(["<think>", "</think>"] if reasoning is THINK else [])]
    vocabulary = ByteVocabulary(list(dict.fromkeys(atoms)) if as_tokens else [])
    markers = MarkerTable(vocabulary, reasoning, form)
    spec = tool_constraint(
        markers, form, tools, choice, parallel=parallel, reasoning=reasoning, starts_in_reasoning=False
    )
    return spec, markers, vocabulary


def assert_valid(calls: list[tuple[str, str]]) -> None:
    schemas = {tool.name: tool.parameters for tool in TOOLS}
    for name, arguments in calls:
        jsonschema.validate(json.loads(arguments), schemas[name])


@pytest.mark.parametrize("form", FAMILIES, ids=lambda form: form.name)
def test_required_calls_are_calls_with_valid_arguments(form: ToolFormat) -> None:
    spec, markers, vocabulary = made(form, REQUIRED)
    assert spec is not None
    for seed in range(6):
        walk = Walk(spec, vocabulary, seed)
        outcome = outcome_of(plan_of(form, spec, markers, None), walk.tokens(), vocabulary)
        assert outcome.calls
        assert outcome.text == ""
        assert_valid(outcome.calls)


# MiniMax M3 closes a tag by repeating its name, and no grammar can hold a free name to that. The others write JSON
# where a type isn't known, and a string inside it may spell their markup where that is mere text.
WITHOUT_FREE_NAMES = ("minimax_m3", "kimi_k3", "dsml", "dsml_calls")
FREE_TOOLS = [
    Tool(
        "write",
        "",
        {
            "type": "object",
            "properties": {"$filter": {"type": "string"}, "@type": {"type": ["string", "null"]}},
            "required": ["$filter"],
        },
    ),
    Tool(
        "maybe",
        "",
        {"properties": {"v": {"type": ["string", "null"]}, "n": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}},
    ),
    Tool("anything", "", {}),
]


def closers_of(form: ToolFormat) -> list[str]:
    """What ends values, calls and blocks in the format."""
    markup = form.calls if isinstance(form, Atem) else form
    if not isinstance(markup, TaggedMarkup):
        return [")]", '")]', "']", "}", '"}', "]"]
    value = markup.value_close.replace("{key}", "v")
    closers = [value, markup.call_close, f"{value}{markup.call_close}", f"{value}\n{markup.call_close}", '"', "}", "]"]
    return [*closers, f"{value}{markup.param_open}$filter{markup.key_end}"]


@pytest.mark.parametrize("as_tokens", [True, False])
@pytest.mark.parametrize("form", FAMILIES, ids=lambda form: form.name)
def test_whatever_the_grammar_accepts_the_parser_reads_back(form: ToolFormat, as_tokens: bool) -> None:
    """Also values of any text, and names that no programming language has."""
    tools = FREE_TOOLS[:-1] if form.name in WITHOUT_FREE_NAMES else FREE_TOOLS
    spec, markers, vocabulary = made(form, REQUIRED, tools=tools, as_tokens=as_tokens)
    assert spec is not None
    ended = 0
    for seed in range(12):
        written: list[int] = []
        walk = Walk(spec, vocabulary, seed, closers_of(form))
        plan = plan_of(form, spec, markers, None, tools)
        try:
            written += walk.tokens()
        except NoEnd:
            continue
        ended += 1
        outcome = outcome_of(plan, iter(written), vocabulary)
        text = b"".join(map(vocabulary.piece, written)).decode()
        assert outcome.calls, text
        assert outcome.text == "", text
        for name, arguments in outcome.calls:
            value = json.loads(arguments)
            assert name != "write" or isinstance(value.get("$filter"), str), text
            assert set(value) <= {"write": {"$filter", "@type"}, "maybe": {"v", "n"}}.get(name, set(value)), text
    assert ended > 4


@pytest.mark.parametrize("form", FAMILIES, ids=lambda form: form.name)
def test_one_call_at_most_is_one_call(form: ToolFormat) -> None:
    spec, markers, vocabulary = made(form, REQUIRED, parallel=False)
    assert spec is not None
    for seed in range(3):
        walk = Walk(spec, vocabulary, seed)
        outcome = outcome_of(plan_of(form, spec, markers, None), walk.tokens(), vocabulary)
        assert len(outcome.calls) == 1


def test_a_named_choice_allows_that_tool_alone_even_where_its_name_begins_another() -> None:
    spec, _, vocabulary = made(HERMES, ToolChoice("required", ["edit_all"]), parallel=False)
    assert spec is not None
    walk = Walk(spec, vocabulary, 0)
    assert walk.allows('<tool_call>\n{"name": "edit_all", "arguments": {}}\n</tool_call>')
    assert not walk.allows('<tool_call>\n{"name": "edit", "arguments": {"mode": "read", "line": 1}}\n</tool_call>')


def test_the_marker_of_a_required_call_is_its_token_and_not_its_letters() -> None:
    spec, _, vocabulary = made(HERMES, REQUIRED)
    assert spec is not None
    spelled = ByteVocabulary()
    walk = Walk(spec, vocabulary, 0)
    call = '\n{"name": "edit_all", "arguments": {}}\n'
    assert walk.allows(f"<tool_call>{call}</tool_call>")
    tokens = spelled.tokenize(f"<tool_call>{call}</tool_call>")
    assert walk._matcher.reset()
    assert walk._matcher.try_consume_tokens(tokens) == 0


def test_auto_is_constrained_from_the_marker_token_on() -> None:
    spec, _, vocabulary = made(HERMES, AUTO)
    assert spec is not None
    assert spec.start == "on_tool_marker"
    walk = Walk(spec, vocabulary, 0)
    assert walk.allows('\n{"name": "edit_all", "arguments": {}}\n</tool_call>')
    assert not walk.allows('\n{"name": "unknown", "arguments": {}}\n</tool_call>')


def test_auto_goes_on_after_a_call_that_has_no_closing_mark() -> None:
    form = family_by_name("mistral_args")
    assert form is not None
    spec, _, vocabulary = made(form, AUTO)
    assert spec is not None
    walk = Walk(spec, vocabulary, 0)
    assert walk.allows("edit_all[ARGS]{}")
    assert walk.allows("edit_all[ARGS]{}[TOOL_CALLS]edit_all[ARGS]{}")


def test_auto_is_free_where_the_marker_is_mere_text() -> None:
    markers = MarkerTable(ByteVocabulary(), None, HERMES)
    arguments = {"parallel": None, "reasoning": None, "starts_in_reasoning": False}
    assert tool_constraint(markers, HERMES, TOOLS, AUTO, **arguments) is None


def test_auto_with_one_call_at_most_ends_after_it() -> None:
    spec, _, vocabulary = made(HERMES, AUTO, parallel=False)
    assert spec is not None
    walk = Walk(spec, vocabulary, 0)
    call = '<tool_call>\n{"name": "edit_all", "arguments": {}}\n</tool_call>'
    assert walk.allows("Just text.")
    assert walk.allows(f"First this: {call}")
    assert not walk.allows(f"{call}{call}")


def test_auto_with_an_answer_format_allows_calls_or_that_answer() -> None:
    vocabulary = ByteVocabulary(HERMES.special_tokens)
    markers = MarkerTable(vocabulary, None, HERMES)
    answer = ConstraintSpec('start: %json {"type": "object", "required": ["a"]}\n')
    arguments = {"parallel": None, "reasoning": None, "starts_in_reasoning": False, "answer": answer}
    spec = tool_constraint(markers, HERMES, TOOLS, AUTO, **arguments)
    assert spec is not None
    walk = Walk(spec, vocabulary, 0)
    assert walk.allows('{"a": 1}')
    assert walk.allows('<tool_call>\n{"name": "edit_all", "arguments": {}}\n</tool_call>')
    assert not walk.allows("Hello")


def test_no_tools_or_tool_choice_none_constrains_nothing() -> None:
    markers = MarkerTable(ByteVocabulary(), None, HERMES)
    arguments = {"parallel": None, "reasoning": None, "starts_in_reasoning": False}
    assert tool_constraint(markers, HERMES, [], REQUIRED, **arguments) is None
    assert tool_constraint(markers, HERMES, TOOLS, ToolChoice("none"), **arguments) is None


@pytest.mark.parametrize("tokens", [True, False])
def test_thinking_may_come_before_what_is_required(tokens: bool) -> None:
    vocabulary = ByteVocabulary(["<think>", "</think>", *HERMES.special_tokens] if tokens else [])
    markers = MarkerTable(vocabulary, THINK, HERMES)
    spec = tool_constraint(markers, HERMES, TOOLS, REQUIRED, parallel=False, reasoning=THINK, starts_in_reasoning=False)
    assert spec is not None
    assert spec.start == "now"
    walk = Walk(spec, vocabulary, 0)
    call = '<tool_call>\n{"name": "edit_all", "arguments": {}}\n</tool_call>'
    assert walk.allows(call)
    assert walk.allows(f"<think>\nHow about {{this}}?\n</think>\n\n{call}")
    assert not walk.allows("<think>\nOnly this.\n</think>\n\nNo call.")


def test_thinking_that_the_prompt_opened_is_free_until_its_end_token() -> None:
    vocabulary = ByteVocabulary(["<think>", "</think>"])
    markers = MarkerTable(vocabulary, THINK)
    spec = after_reasoning(ConstraintSpec('start: "yes" | "no"\n'), markers, THINK, starts_in_reasoning=True)
    assert spec.start == "after_reasoning"
    assert Walk(spec, vocabulary, 0).allows("\n\nyes")


def test_thinking_that_the_prompt_opened_is_part_of_the_grammar_where_its_end_is_text() -> None:
    vocabulary = ByteVocabulary()
    spec = after_reasoning(
        ConstraintSpec('start: "yes" | "no"\n'), MarkerTable(vocabulary, THINK), THINK, starts_in_reasoning=True
    )
    assert spec.start == "now"
    walk = Walk(spec, vocabulary, 0)
    assert walk.allows("Hm, yes or no?</think>\n\nyes")
    assert not walk.allows("Hm, yes or no?</think>\n\nperhaps")


@pytest.mark.parametrize("special", [["<tool_call>", "</tool_call>"], ["</parameter>", "</function>"], []])
@pytest.mark.parametrize(
    ("types", "written", "means"),
    [
        ({"type": "string"}, 'say "hi"\n<b>', 'say "hi"\n<b>'),
        ({"type": ["string", "null"]}, "null", None),
        ({"type": ["string", "null"]}, "plain", "plain"),
        ({"enum": ["a", 1]}, "1", 1),
        ({"type": "string", "pattern": "^[a-z]{2}$"}, "ab", "ab"),
        ({"type": "array", "items": {"type": "integer"}}, "[1, 2]", [1, 2]),
        ({}, "anything", "anything"),
    ],
)
def test_tagged_values_are_written_raw_where_they_may_be_strings(
    types: object, written: str, means: object, special: list[str]
) -> None:
    form = family_by_name("qwen3_coder")
    assert form is not None
    tool = Tool("t", parameters={"type": "object", "properties": {"k": types}, "required": ["k"]})
    vocabulary = ByteVocabulary(special)
    markers = MarkerTable(vocabulary, None, form)
    spec = tool_constraint(markers, form, [tool], REQUIRED, parallel=False, reasoning=None, starts_in_reasoning=False)
    assert spec is not None
    text = f"<tool_call>\n<function=t>\n<parameter=k>\n{written}\n</parameter>\n</function>\n</tool_call>"
    assert Walk(spec, vocabulary, 0).allows(text)
    plan = SplitPlan(markers, None, form, (tool,), constraint_start=spec.start)
    [(_, arguments)] = outcome_of(plan, iter(vocabulary.tokenize(text)), vocabulary).calls
    assert json.loads(arguments) == {"k": means}


@pytest.mark.parametrize("value", ["a</parameter>", "</parameter>", "x\n</parameter>\n</parameter>", "</function>"])
def test_a_value_may_contain_its_closing_tag(value: str) -> None:
    form = family_by_name("qwen3_coder")
    assert form is not None
    tool = Tool("t", parameters={"type": "object", "properties": {"k": {"type": "string"}, "l": {}}, "required": ["k"]})
    vocabulary = ByteVocabulary(["<tool_call>", "</tool_call>"])
    markers = MarkerTable(vocabulary, None, form)
    spec = tool_constraint(markers, form, [tool], REQUIRED, parallel=False, reasoning=None, starts_in_reasoning=False)
    assert spec is not None
    body = f"<parameter=k>\n{value}\n</parameter>\n<parameter=l>\n{value}\n</parameter>\n</function>"
    text = f"<tool_call>\n<function=t>\n{body}\n</tool_call>"
    assert Walk(spec, vocabulary, 0).allows(text)
    plan = SplitPlan(markers, None, form, (tool,), constraint_start=spec.start)
    [(_, arguments)] = outcome_of(plan, iter(vocabulary.tokenize(text)), vocabulary).calls
    assert json.loads(arguments) == {"k": value, "l": value}


@pytest.mark.parametrize("form", [form for form in FAMILIES if not form.frames], ids=lambda form: form.name)
def test_a_model_that_wants_to_stop_can_after_the_marker_and_after_each_call(form: ToolFormat) -> None:
    spec, markers, vocabulary = made(form, AUTO, tools=TOOLS[1:])
    if spec is None:  # the marker is mere text: nothing is forced
        return
    assert Walk(spec, vocabulary, 0).allows("")
    required, _, _ = made(form, REQUIRED, tools=TOOLS[1:], parallel=False)
    assert required is not None
    for seed in range(4):
        tokens = list(Walk(required, vocabulary, seed).tokens())
        matcher = Walk(required, vocabulary, seed)._matcher
        matcher.reset()
        ends = [
            size
            for size in range(1, len(tokens) + 1)
            if matcher.consume_token(tokens[size - 1]) and matcher.is_accepting()
        ]
        for size in ends:
            plan = plan_of(form, required, markers, None, TOOLS[1:])
            assert len(outcome_of(plan, iter(tokens[:size]), vocabulary).calls) == 1
        closing = getattr(form, "section_close", "") or getattr(form, "close", "")
        assert not closing or tokens[ends[0] - 1] not in vocabulary.tokenize(closing)


def test_what_a_family_writes_around_answers_may_stand_around_one_with_a_format() -> None:
    form = family_by_name("cohere")
    assert form is not None
    vocabulary = ByteVocabulary([*form.special_tokens, *(text for pair in form.wrappers for text in pair)])
    markers = MarkerTable(vocabulary, None, form)
    answer = ConstraintSpec('start: %json {"type": "object"}\n')
    for spec in (
        after_reasoning(answer, markers, None, False, form.wrappers),
        tool_constraint(
            markers, form, TOOLS, AUTO, parallel=None, reasoning=None, starts_in_reasoning=False, answer=answer
        ),
    ):
        assert spec is not None
        walk = Walk(spec, vocabulary, 0)
        assert walk.allows('<|START_RESPONSE|>{"a": 1}<|END_RESPONSE|>')
        assert walk.allows('{"a": 1}')
        assert not walk.allows("<|START_RESPONSE|>text<|END_RESPONSE|>")


def test_harmony_calls_and_answers_have_their_headers() -> None:
    form = family_by_name("harmony")
    assert form is not None
    vocabulary = ByteVocabulary(list(dict.fromkeys(form.special_tokens)))
    markers = MarkerTable(vocabulary, CHANNELS, form)
    spec = tool_constraint(markers, form, TOOLS, REQUIRED, parallel=None, reasoning=CHANNELS, starts_in_reasoning=False)
    assert spec is not None
    call = "<|channel|>commentary to=functions.edit_all <|constrain|>json<|message|>{}"
    assert Walk(spec, vocabulary, 0).allows(call)
    thought = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"
    assert Walk(spec, vocabulary, 0).allows(thought + call)
    answer = after_reasoning(ConstraintSpec('start: "yes"\n'), markers, CHANNELS, starts_in_reasoning=False)
    assert Walk(answer, vocabulary, 0).allows(thought + "<|channel|>final<|message|>yes")


def test_a_strict_tool_that_no_grammar_takes_is_named() -> None:
    parameters = {"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}
    markers = MarkerTable(ByteVocabulary(HERMES.special_tokens), None, HERMES)
    arguments = {"parallel": None, "reasoning": None, "starts_in_reasoning": False}
    with pytest.raises(InvalidSchema, match=r"tools\[1\]\.parameters\.properties\.a.*unclosed group"):
        tool_constraint(markers, HERMES, [*TOOLS[:1], Tool("t", "", parameters, True)], REQUIRED, **arguments)
    assert tool_constraint(markers, HERMES, [Tool("t", "", parameters)], REQUIRED, **arguments) is not None
