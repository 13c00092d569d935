"""Detects the markers of a model's reasoning: a known pair, or what the template puts around earlier reasoning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cortex.engine.chat.detection.probe_messages import assistant, user
from cortex.engine.chat.detection.probe_renderer import MARKER, ProbeRenderer
from cortex.engine.chat.splitting.markers import ReasoningFormat
from cortex.engine.chat.templates.source_strings import source_strings
from cortex.engine.chat.vocabulary import Vocabulary, single_token

__all__ = ["KNOWN_REASONING", "DetectedReasoning", "detect_reasoning", "reasoning_by_name"]

_RESPONSE = (("<response>", "</response>"),)  # around answers: ibm-granite-granite-3.3-2B-Instruct
KNOWN_REASONING: tuple[ReasoningFormat, ...] = (
    ReasoningFormat(  # openai-gpt-oss-120b
        "channels",
        "<|channel|>analysis<|message|>",
        "<|end|>",
        answer="<|channel|>final<|message|>",
        next="<|start|>assistant",
    ),
    ReasoningFormat(  # muse-glimmer
        "to_self",
        " to=self<|message|>",
        "<|eom|>",
        answer=" to=user<|message|>",
        next="<|start|>assistant",
    ),
    ReasoningFormat(  # Kimi-K3
        "open_think",
        "<|open|>think<|sep|>",
        "<|close|>think<|sep|>",
        (("<|open|>response<|sep|>", "<|close|>response<|sep|>"),),
        answer="<|open|>response<|sep|>",
    ),
    ReasoningFormat("channel_thought", "<|channel>thought", "<channel|>"),  # google-gemma-4-31B-it
    ReasoningFormat("seed_think", "<seed:think>", "</seed:think>"),  # ByteDance-Seed-OSS
    ReasoningFormat("mm_think", "<mm:think>", "</mm:think>"),  # MiniMax-M3
    ReasoningFormat("bracket_think", "[THINK]", "[/THINK]"),  # mistralai-Ministral-3-14B-Reasoning-2512
    ReasoningFormat("start_thinking", "<|START_THINKING|>", "<|END_THINKING|>"),  # Cohere2MoE, command-r7b
    ReasoningFormat("inner", "<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus-8B-Instruct
    ReasoningFormat("triangle_think", "◁think▷", "◁/think▷"),  # Kimi-VL-Thinking's own template
    ReasoningFormat("steps", "Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),  # Apriel
    ReasoningFormat("think", "<think>", "</think>"),  # DeepSeek R1, Qwen3, GLM and most others
    ReasoningFormat("thinking", "<thinking>", "</thinking>"),
)
"""The more specific pair first: templates mention several, for example to remove another model's. The comments name
chat templates in llama.cpp's models/templates."""


@dataclass(frozen=True, slots=True)
class DetectedReasoning:
    """A reasoning format, and a sentence for people that says why."""

    format: ReasoningFormat
    evidence: str


def reasoning_by_name(name: str) -> ReasoningFormat | None:
    """The known format called `name` in a model's profile (`reasoning_format`), None if there is none."""
    return next((pair for pair in KNOWN_REASONING if pair.name == name), None)


def detect_reasoning(
    renderer: ProbeRenderer, sources: Sequence[str], vocabulary: Vocabulary
) -> DetectedReasoning | None:
    """The model's reasoning markers, by the strongest evidence that exists.

    1. The template renders earlier reasoning: what is around it. 2. The generation prompt opens or closes a known
    pair. 3. The template's source (`sources`: all templates of the GGUF) contains both ends of a pair, or its closing
    end, by which it removes reasoning from the history. 4. The template removes what is before a string of its source
    from earlier answers. 5. The vocabulary has both ends as single tokens.
    """
    source = "\n".join(sources)
    found = (
        _by_rendering(renderer)
        or _by_generation_prompt(renderer)
        or _by_source(source)
        or _by_removal(renderer, source)
        or _by_vocabulary(vocabulary)
    )
    if found is None or "<response>" not in source:
        return found
    return DetectedReasoning(replace(found.format, wrappers=found.format.wrappers + _RESPONSE), found.evidence)


def _by_rendering(renderer: ProbeRenderer) -> DetectedReasoning | None:
    key = renderer.capabilities.reasoning_key
    if key is None:
        return None
    rendered = renderer.turn([user(), assistant("NEEDLE_TEXT", **{key: "NEEDLE_REASONING"})])
    if not rendered or "NEEDLE_REASONING" not in rendered:
        return None
    before, _, rest = rendered.partition("NEEDLE_REASONING")
    after, answered, end = rest.partition("NEEDLE_TEXT")
    evidence = f"the template renders earlier reasoning between {before[-40:]!r} and {after[:40]!r}"
    for pair in KNOWN_REASONING:
        if before.rstrip().endswith(pair.open) and after.lstrip().startswith(pair.close):
            return DetectedReasoning(pair, evidence)
    inferred = _inferred(before, after, end, renderer) if answered else None
    return DetectedReasoning(inferred, evidence) if inferred else None


def _inferred(before: str, after: str, end: str, renderer: ProbeRenderer) -> ReasoningFormat | None:
    """An unknown pair: what follows the generation prompt, and the first marker after the reasoning.

    What is between that marker and the answer, or before an answer without reasoning, wraps answers.
    """
    markers = MARKER.findall(before)
    opening = before.removeprefix(renderer.generation_prompt()).strip()
    if not opening or opening == before.strip():
        opening = markers[-1] if markers else ""
    closing, ending = MARKER.search(after), MARKER.search(end)
    if not opening or closing is None:
        return None
    header = renderer.generation_prompt().strip()
    framed = after[closing.end() :].strip()
    following = header if header and framed.startswith(header) else ""
    plain = (renderer.output(assistant("NEEDLE_TEXT")) or "").partition("NEEDLE_TEXT")[0].strip()
    frames = tuple((frame, ending[0]) for frame in (framed, following, plain) if frame and ending)
    answer = framed.removeprefix(following).strip()
    return ReasoningFormat("generic", opening, closing[0], frames, next=following, answer=answer)


def _by_generation_prompt(renderer: ProbeRenderer) -> DetectedReasoning | None:
    prompt = renderer.generation_prompt()
    for pair in KNOWN_REASONING:
        if pair.open in prompt or pair.close in prompt:
            return DetectedReasoning(pair, f"the generation prompt ends in {prompt[-40:]!r}")
    return None


def _by_source(source: str) -> DetectedReasoning | None:
    for pair in KNOWN_REASONING:
        if pair.close in source and (pair.open in source or not pair.answer):
            return DetectedReasoning(pair, f"the template's source names {pair.close!r}")
    return None


def _by_removal(renderer: ProbeRenderer, source: str) -> DetectedReasoning | None:
    """An unknown pair, proved by rendering: of an earlier answer with both ends in it, only what follows is left."""
    strings = {text for text in source_strings(source) if "/" in text}
    for closing in sorted(strings, key=len):
        opening = closing.replace("/", "", 1)
        if not any(char.isalpha() for char in opening) or any(char.isspace() for char in closing):
            continue
        thought = f"{opening}NEEDLE_REASONING{closing}NEEDLE_TEXT"
        left, whole = (
            renderer.render([user(), assistant(text), user()]) or ""
            for text in (thought, "NEEDLE_REASONING NEEDLE_TEXT")
        )
        if "NEEDLE_TEXT" in left and "NEEDLE_REASONING" not in left and "NEEDLE_REASONING" in whole:
            evidence = f"the template removes what is before {closing!r} from earlier answers"
            return DetectedReasoning(ReasoningFormat("generic", opening, closing), evidence)
    return None


def _by_vocabulary(vocabulary: Vocabulary) -> DetectedReasoning | None:
    for pair in KNOWN_REASONING:
        if not pair.answer and all(single_token(vocabulary, end) is not None for end in (pair.open, pair.close)):
            return DetectedReasoning(pair, f"{pair.open!r} and {pair.close!r} are single tokens of the vocabulary")
    return None
