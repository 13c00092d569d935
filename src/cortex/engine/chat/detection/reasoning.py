"""Which markers a model thinks between: known pairs, or whatever its template puts around a needle."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cortex.engine.chat.detection.probe_messages import assistant, user
from cortex.engine.chat.detection.probe_renderer import Rendition
from cortex.engine.chat.formats.base import ReasoningFormat, single_token
from cortex.engine.chat.vocabulary import Vocabulary

__all__ = ["KNOWN", "ReasoningFound", "find_reasoning", "reasoning_by_name"]

_RESPONSE = (("<response>", "</response>"),)
KNOWN: tuple[ReasoningFormat, ...] = (
    ReasoningFormat(
        "channels",
        "<|channel|>analysis<|message|>",
        "<|end|>",
        answer="<|channel|>final<|message|>",
        next="<|start|>assistant",
    ),
    ReasoningFormat(
        "to_self",
        " to=self<|message|>",
        "<|eom|>",
        answer=" to=user<|message|>",
        next="<|start|>assistant",
    ),
    ReasoningFormat(
        "open_think",
        "<|open|>think<|sep|>",
        "<|close|>think<|sep|>",
        (("<|open|>response<|sep|>", "<|close|>response<|sep|>"),),
        answer="<|open|>response<|sep|>",
    ),
    ReasoningFormat("channel_thought", "<|channel>thought", "<channel|>"),
    ReasoningFormat("seed_think", "<seed:think>", "</seed:think>"),
    ReasoningFormat("mm_think", "<mm:think>", "</mm:think>"),
    ReasoningFormat("bracket_think", "[THINK]", "[/THINK]"),
    ReasoningFormat("start_thinking", "<|START_THINKING|>", "<|END_THINKING|>"),
    ReasoningFormat("inner", "<|inner_prefix|>", "<|inner_suffix|>"),
    ReasoningFormat("triangle_think", "◁think▷", "◁/think▷"),
    ReasoningFormat("steps", "Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),
    ReasoningFormat("think", "<think>", "</think>"),
    ReasoningFormat("thinking", "<thinking>", "</thinking>"),
)
"""The more peculiar pair first: templates mention several, e.g. to strip another model's."""

_MARKER = re.compile(r"<[^<>\s]{1,64}>|\[[^\[\]\s]{1,64}\]|◁[^▷]{1,32}▷")


@dataclass(frozen=True, slots=True)
class ReasoningFound:
    format: ReasoningFormat
    evidence: str


def reasoning_by_name(name: str) -> ReasoningFormat | None:
    """The pair that an operator named in a profile."""
    return next((pair for pair in KNOWN if pair.name == name), None)


def find_reasoning(rendition: Rendition, sources: Sequence[str], vocabulary: Vocabulary) -> ReasoningFound | None:
    """The model's thinking markers, by the strongest evidence there is.

    1. The template renders earlier reasoning: what stands around it. 2. The generation prompt opens or closes a known
    pair. 3. The template's source names both ends of one, or the end (it strips it from history). 4. The vocabulary
    has both ends as single tokens.
    """
    source = "\n".join(sources)
    found = (
        _by_needle(rendition) or _by_generation_prompt(rendition) or _by_source(source) or _by_vocabulary(vocabulary)
    )
    if found is None or "<response>" not in source:
        return found
    return ReasoningFound(replace(found.format, wrappers=found.format.wrappers + _RESPONSE), found.evidence)


def _by_needle(rendition: Rendition) -> ReasoningFound | None:
    key = rendition.takes.reasoning_key
    if key is None:
        return None
    with_thought = rendition.turn([user(), assistant("NEEDLE_TEXT", **{key: "NEEDLE_THOUGHT"})])
    if not with_thought or "NEEDLE_THOUGHT" not in with_thought:
        return None
    before, _, rest = with_thought.partition("NEEDLE_THOUGHT")
    after, answered, end = rest.partition("NEEDLE_TEXT")
    evidence = f"the template renders earlier reasoning between {before[-40:]!r} and {after[:40]!r}"
    for pair in KNOWN:
        if before.rstrip().endswith(pair.open) and after.lstrip().startswith(pair.close):
            return ReasoningFound(pair, evidence)
    invented = _invented(before, after, end, rendition) if answered else None
    return ReasoningFound(invented, evidence) if invented else None


def _invented(before: str, after: str, end: str, rendition: Rendition) -> ReasoningFormat | None:
    """The pair that nobody knew: what follows the generation prompt, and the first marker after the thought.

    What stands between that marker and the answer, or before an answer without thought, frames answers.
    """
    markers = _MARKER.findall(before)
    opening = before.removeprefix(rendition.generation_prompt()).strip()
    if not opening or opening == before.strip():
        opening = markers[-1] if markers else ""
    closing, ending = _MARKER.search(after), _MARKER.search(end)
    if not opening or closing is None:
        return None
    header = rendition.generation_prompt().strip()
    framed = after[closing.end() :].strip()
    following = header if header and framed.startswith(header) else ""
    plain = (rendition.output(assistant("NEEDLE_TEXT")) or "").partition("NEEDLE_TEXT")[0].strip()
    frames = tuple((frame, ending[0]) for frame in (framed, following, plain) if frame and ending)
    answer = framed.removeprefix(following).strip()
    return ReasoningFormat("generic", opening, closing[0], frames, next=following, answer=answer)


def _by_generation_prompt(rendition: Rendition) -> ReasoningFound | None:
    prompt = rendition.generation_prompt()
    for pair in KNOWN:
        if pair.open in prompt or pair.close in prompt:
            return ReasoningFound(pair, f"the generation prompt ends in {prompt[-40:]!r}")
    return None


def _by_source(source: str) -> ReasoningFound | None:
    for pair in KNOWN:
        if pair.close in source and (pair.open in source or not pair.answer):
            return ReasoningFound(pair, f"the template's source names {pair.close!r}")
    return None


def _by_vocabulary(vocabulary: Vocabulary) -> ReasoningFound | None:
    for pair in KNOWN:
        if not pair.answer and all(single_token(vocabulary, end) is not None for end in (pair.open, pair.close)):
            return ReasoningFound(pair, f"{pair.open!r} and {pair.close!r} are single tokens of the vocabulary")
    return None
