"""Which reasoning and tool-call markup a GGUF speaks, and how we know: rendered, read, then tried.

A tool format is chosen by the strongest evidence there is:

1. a family whose parser reads back the calls that the template itself renders, and whose marks the template names;
2. any family that reads them back;
3. the generic format built from what the template puts around names, keys and values, if it reads them back;
4. a family whose marks the template names (templates that show no calls of the history);
5. a family all of whose marks are single tokens of the vocabulary;
6. none: the model is taught the generic format when a request has tools.

No model or vendor name is looked at.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from cortex.engine.chat.detection.format_inference import infer_format
from cortex.engine.chat.detection.probe_messages import assistant, call, declaration
from cortex.engine.chat.detection.probe_renderer import Rendition
from cortex.engine.chat.detection.reasoning import find_reasoning
from cortex.engine.chat.detection.roundtrip import read_back
from cortex.engine.chat.formats import FAMILIES, Evidence, ToolFormat
from cortex.engine.chat.formats.base import ReasoningFormat, single_token
from cortex.engine.chat.formats.hermes import HERMES
from cortex.engine.chat.splitting.markers import MarkerTable
from cortex.engine.chat.vocabulary import Vocabulary
from cortex.wire.inference import Tool

__all__ = ["Findings", "find_tool_format", "probe_model"]

PROBE_TOOL = Tool(
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
class Findings:
    """What the probe found; `example` is a call as the template renders it."""

    reasoning: ReasoningFormat | None = None
    tool_format: ToolFormat | None = None
    evidence: list[str] = field(default_factory=list)
    self_test: str = ""
    example: str | None = None


def probe_model(rendition: Rendition, sources: Sequence[str], vocabulary: Vocabulary) -> Findings:
    """Look for both formats in `sources` (all templates of the GGUF) and in what `rendition` renders."""
    findings = Findings()
    found = find_reasoning(rendition, sources, vocabulary)
    if found is not None:
        findings.reasoning = found.format
        findings.evidence.append(f"reasoning: {found.evidence}")
    find_tool_format(findings, rendition, sources, vocabulary)
    return findings


def find_tool_format(findings: Findings, rendition: Rendition, sources: Sequence[str], vocabulary: Vocabulary) -> None:
    """Fill in the tool format's part of `findings`."""
    evidence = Evidence("\n".join(sources), vocabulary)
    named = {family.name: why for family in FAMILIES if (why := family.matches(evidence))}
    rendered = _rendered_calls(rendition)
    findings.example = rendered[0] if rendered else None
    for family in sorted(FAMILIES, key=lambda family: family.name not in named):
        if rendered and _reads(family, rendered, findings.reasoning, vocabulary):
            findings.tool_format = family
            findings.evidence.append(f"tools: {named.get(family.name, 'its parser reads what the template renders')}")
            findings.self_test = f"passed: {len(rendered)} rendered turns of calls were read back by {family.name}"
            return
    generic = infer_format([_answer(text, findings.reasoning) for text in rendered], PROBE_TOOL.name, _CALLS)
    if generic is not None and _reads(generic, rendered, findings.reasoning, vocabulary):
        findings.tool_format = generic
        findings.evidence.append(f"tools: no known family; the template writes {rendered[0]!r}")
        findings.self_test = f"passed: {len(rendered)} rendered turns of calls were read back by {generic.name}"
        return
    unrendered = next((family for family in FAMILIES if family.name in named), None) or _by_tokens(vocabulary)
    if unrendered is None:
        return
    findings.tool_format = unrendered
    findings.evidence.append(f"tools: {named.get(unrendered.name) or 'its marks are single tokens of the vocabulary'}")
    findings.self_test = "failed: rendered calls were not read back" if rendered else "not run: no call is rendered"


def _by_tokens(vocabulary: Vocabulary) -> ToolFormat | None:
    """A family with marks on both sides that are tokens; the plainest where several share their marks."""
    found = [
        family
        for family in FAMILIES
        if len(family.atoms) > 1 and all(single_token(vocabulary, atom) is not None for atom in family.atoms)
    ]
    return HERMES if HERMES in found else next(iter(found), None)


def _answer(rendered: str, reasoning: ReasoningFormat | None) -> str:
    """What follows the (empty) thinking that some templates put before a call."""
    thought, found, rest = rendered.partition(reasoning.close) if reasoning else ("", "", "")
    return rest.lstrip() if found and PROBE_TOOL.name not in thought else rendered


def _rendered_calls(rendition: Rendition) -> list[str]:
    """One call, and two where the template takes two, as the model would have to write them."""
    takes = rendition.takes
    if not takes.tool_calls:
        return []
    made = [
        call(arguments if takes.object_arguments else json.dumps(arguments), call_id=f"aB3dE6gH{number}")
        for number, arguments in enumerate(_CALLS)
    ]
    tools = [declaration(PROBE_TOOL.name, first_key="string", second_key="integer")]
    turns = [made[:1], made] if takes.parallel_calls else [made[:1]]
    outputs = [rendition.output(assistant(takes.empty_content, tool_calls=turn), tools=tools) for turn in turns]
    return [output for output in outputs if output and PROBE_TOOL.name in output]


def _reads(
    family: ToolFormat, rendered: Sequence[str], reasoning: ReasoningFormat | None, vocabulary: Vocabulary
) -> bool:
    markers = MarkerTable(vocabulary, reasoning, family)
    for count, output in enumerate(rendered, start=1):
        calls = read_back(output, markers, reasoning, family, [PROBE_TOOL]).calls
        if [(name, _parsed(arguments)) for name, arguments in calls] != [
            (PROBE_TOOL.name, arguments) for arguments in _CALLS[:count]
        ]:
            return False
    return True


def _parsed(arguments: str) -> object:
    try:
        return json.loads(arguments)
    except ValueError:
        return None
