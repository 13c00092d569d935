"""Detects what ends an assistant's turn where the vocabulary marks no such token as one that ends generation.

Some GGUFs have a template whose end of turn is a plain control token, or a text, to their vocabulary (a ChatML template
over a base model's tokenizer). Their models write it and go on with the user's next turn.
"""

from __future__ import annotations

from dataclasses import dataclass

from cortex.engine.chat.detection.probe_messages import assistant, user
from cortex.engine.chat.detection.probe_renderer import MARKER, ProbeRenderer
from cortex.engine.chat.splitting.markers import ReasoningFormat, ToolMarkers
from cortex.engine.chat.vocabulary import Vocabulary, single_token

__all__ = ["TurnEnd", "detect_turn_end"]

_SHORTEST_TEXT = 4
"""Characters: a shorter text between two turns (a blank line, `- `) may be part of an answer."""


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """`text` ends a turn: `token` if it is a single token of the vocabulary, else a stop string."""

    text: str
    token: int | None


def detect_turn_end(
    renderer: ProbeRenderer, vocabulary: Vocabulary, reasoning: ReasoningFormat | None, tool_format: ToolMarkers | None
) -> TurnEnd | None:
    """What the template puts behind an assistant's text; None if a token that ends generation is there, or nothing.

    Markers of `reasoning` and `tool_format` don't count: an answer may go on behind them.
    """
    between, last = _behind_text(renderer)
    if any(vocabulary.is_end(token) for token in vocabulary.tokenize(between + last, special=True)):
        return None
    used = _used_by_formats(reasoning, tool_format)
    ends = [found for found in MARKER.findall(between) if not any(found in marker for marker in used)]
    if ends:
        return TurnEnd(ends[0], single_token(vocabulary, ends[0]))
    text = between.strip()
    if MARKER.search(text) or len(text) < _SHORTEST_TEXT:
        return None
    return TurnEnd("\n" + text if between.lstrip(" ").startswith("\n") else text, None)


def _behind_text(renderer: ProbeRenderer) -> tuple[str, str]:
    """What is between an assistant's text and the next user's, and what follows a last turn: some templates write their
    end marker only there. Both are "" if the template shows no such conversation."""
    turns = [user("NEEDLE_ONE"), assistant("NEEDLE_TWO")]
    rendered = renderer.render([*turns, user("NEEDLE_THREE")]) or ""
    _, found, rest = rendered.partition("NEEDLE_TWO")
    between, followed, _ = rest.partition("NEEDLE_THREE")
    if not found or not followed:
        return "", ""
    return between, (renderer.render(turns) or "").partition("NEEDLE_TWO")[2]


def _used_by_formats(reasoning: ReasoningFormat | None, tool_format: ToolMarkers | None) -> list[str]:
    used: list[str] = []
    if reasoning is not None:
        used += [reasoning.open, reasoning.close, reasoning.answer, reasoning.next]
        used += [end for pair in reasoning.wrappers for end in pair]
    if tool_format is not None:
        used += [*tool_format.special_tokens, *(end for pair in tool_format.wrappers for end in pair)]
    return used
