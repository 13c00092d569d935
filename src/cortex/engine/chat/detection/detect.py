"""Detects the reasoning and tool-call formats of a GGUF from its templates and its vocabulary.

A tool-call format is chosen by the strongest evidence that exists:

1. a family whose parser reads back the calls that the template renders, and whose markers the template contains;
2. any family whose parser reads them back;
3. the format inferred from what the template puts around names, keys and values, if it reads them back;
4. a family whose markers the template contains (for templates that render no calls);
5. a family all of whose special tokens the vocabulary has;
6. none: the model is taught a generic format when a request has tools.

Model and vendor names are never used.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from cortex.engine.chat.detection.format_inference import infer_format
from cortex.engine.chat.detection.probe_messages import assistant, call, declaration
from cortex.engine.chat.detection.probe_renderer import ProbeRenderer
from cortex.engine.chat.detection.reasoning import detect_reasoning
from cortex.engine.chat.detection.roundtrip import run_roundtrip
from cortex.engine.chat.detection.turn_end import TurnEnd, detect_turn_end
from cortex.engine.chat.formats.base import Evidence, ToolFormat
from cortex.engine.chat.formats.families import FAMILIES
from cortex.engine.chat.formats.json_families import HERMES
from cortex.engine.chat.splitting.markers import MarkerTable, ReasoningFormat
from cortex.engine.chat.vocabulary import Vocabulary, single_token
from cortex.wire.inference import Tool

__all__ = ["DetectedFormats", "detect_formats"]

_PROBE_TOOL = Tool(
    name="probe_tool",
    description="A tool.",
    parameters={
        "type": "object",
        "properties": {"first_key": {"type": "string"}, "second_key": {"type": "integer"}},
        "required": ["first_key", "second_key"],
    },
)
_CALLS = [{"first_key": "some value", "second_key": 42}, {"first_key": "other value", "second_key": 7}]


@dataclass(slots=True)
class DetectedFormats:
    """What detection found. `evidence` and `self_test` are sentences for people; `example` is a call as the template
    renders it; `turn_end` ends a turn beside the tokens that the vocabulary knows to."""

    reasoning: ReasoningFormat | None = None
    tool_format: ToolFormat | None = None
    evidence: list[str] = field(default_factory=list)
    self_test: str = ""
    example: str | None = None
    turn_end: TurnEnd | None = None


def detect_formats(renderer: ProbeRenderer, sources: Sequence[str], vocabulary: Vocabulary) -> DetectedFormats:
    """Detect both formats from `sources` (all templates of the GGUF) and from what `renderer` renders."""
    detected = DetectedFormats()
    found = detect_reasoning(renderer, sources, vocabulary)
    if found is not None:
        detected.reasoning = found.format
        detected.evidence.append(f"reasoning: {found.evidence}")
    _detect_tool_format(detected, renderer, sources, vocabulary)
    detected.turn_end = detect_turn_end(renderer, vocabulary, detected.reasoning, detected.tool_format)
    if detected.turn_end is not None:
        detected.evidence.append(f"end of turn: the template writes {detected.turn_end.text!r}")
    return detected


def _detect_tool_format(
    detected: DetectedFormats, renderer: ProbeRenderer, sources: Sequence[str], vocabulary: Vocabulary
) -> None:
    """Set `tool_format`, `self_test` and `example` of `detected`, and add the evidence."""
    evidence = Evidence("\n".join(sources), vocabulary)
    named = {family.name: why for family in FAMILIES if (why := family.matches(evidence))}
    rendered = _rendered_calls(renderer)
    detected.example = rendered[0] if rendered else None
    for family in sorted(FAMILIES, key=lambda family: family.name not in named):
        whole = family.name not in named
        if rendered and _reads_back(family, rendered, detected.reasoning, vocabulary, whole=whole):
            detected.tool_format = family
            detected.evidence.append(f"tools: {named.get(family.name, 'its parser reads what the template renders')}")
            detected.self_test = f"passed: {len(rendered)} rendered turns of calls were read back by {family.name}"
            return
    generic = infer_format([_answer(text, detected.reasoning) for text in rendered], _PROBE_TOOL.name, _CALLS)
    if generic is not None and _reads_back(generic, rendered, detected.reasoning, vocabulary):
        detected.tool_format = generic
        detected.evidence.append(f"tools: no known family; the template writes {rendered[0]!r}")
        detected.self_test = f"passed: {len(rendered)} rendered turns of calls were read back by {generic.name}"
        return
    unproved = next((family for family in FAMILIES if family.name in named), None) or _by_tokens(vocabulary)
    if unproved is None:
        return
    detected.tool_format = unproved
    why = named.get(unproved.name, "its markers are single tokens of the vocabulary")
    detected.evidence.append(f"tools: {why}")
    detected.self_test = "failed: rendered calls were not read back" if rendered else "not run: no call is rendered"


def _by_tokens(vocabulary: Vocabulary) -> ToolFormat | None:
    """A family with more than one special token, all of which the vocabulary has; Hermes if it is among several."""
    found = [
        family
        for family in FAMILIES
        if len(family.special_tokens) > 1
        and all(single_token(vocabulary, text) is not None for text in family.special_tokens)
    ]
    return HERMES if HERMES in found else next(iter(found), None)


def _answer(rendered: str, reasoning: ReasoningFormat | None) -> str:
    """`rendered` without the (empty) reasoning that some templates put before a call."""
    before, found, rest = rendered.partition(reasoning.close) if reasoning else ("", "", "")
    return rest.lstrip() if found and _PROBE_TOOL.name not in before else rendered


def _rendered_calls(renderer: ProbeRenderer) -> list[str]:
    """One call, and two where the template supports two, as the model would write them."""
    capabilities = renderer.capabilities
    if not capabilities.tool_calls:
        return []
    made = [
        call(arguments if capabilities.object_arguments else json.dumps(arguments), call_id=f"aB3dE6gH{number}")
        for number, arguments in enumerate(_CALLS)
    ]
    tools = [declaration(_PROBE_TOOL.name, first_key="string", second_key="integer")]
    turns = [made[:1], made] if capabilities.parallel_calls else [made[:1]]
    outputs = [renderer.output(assistant(capabilities.empty_content, tool_calls=turn), tools=tools) for turn in turns]
    return [output for output in outputs if output and _PROBE_TOOL.name in output]


def _reads_back(
    family: ToolFormat,
    rendered: Sequence[str],
    reasoning: ReasoningFormat | None,
    vocabulary: Vocabulary,
    *,
    whole: bool = True,
) -> bool:
    """Whether the family's parser finds the calls; `whole`: and leaves no text, perhaps another's marker."""
    markers = MarkerTable(vocabulary, reasoning, family)
    for count, output in enumerate(rendered, start=1):
        found = run_roundtrip(output, markers, reasoning, family, [_PROBE_TOOL])
        if whole and found.text.strip():
            return False
        if [(name, _parsed(arguments)) for name, arguments in found.calls] != [
            (_PROBE_TOOL.name, arguments) for arguments in _CALLS[:count]
        ]:
            return False
    return True


def _parsed(arguments: str) -> object:
    try:
        return json.loads(arguments)
    except ValueError:
        return None
