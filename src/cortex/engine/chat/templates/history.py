"""Adapts a client's history to the capabilities of one template: wire messages in, template messages out.

Clients send what other servers accept: system messages anywhere, results of calls that were removed, two user turns
in a row. Each step below handles one capability that a template may lack, and changes nothing for a template that has
it, so that a prompt's beginning stays the same from turn to turn (the KV prefix is reused).
"""

from __future__ import annotations

import hashlib
import json
import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from cortex.engine.chat.templates.capabilities import Capabilities
from cortex.engine.chat.templates.image_markers import image_marker
from cortex.engine.chat.templates.template import Message
from cortex.wire import inference

__all__ = ["adapt_history"]


@dataclass(frozen=True, slots=True)
class _Turn:
    role: str
    text: str = ""
    reasoning: str = ""
    calls: tuple[inference.ToolCall, ...] = ()
    call_id: str = ""
    name: str | None = None


def adapt_history(messages: Sequence[inference.Message], capabilities: Capabilities) -> list[Message]:
    """`messages` for a template with `capabilities`."""
    turns = [turn for message in messages for turn in _turns(message)]
    turns = [turn for turn in turns if turn.role != "assistant" or turn.calls or turn.text.strip() or turn.reasoning]
    turns = _ordered_results(_named_results(_lead_system(turns)))
    turns = turns if capabilities.tool_calls else _calls_as_text(turns)
    turns = turns if capabilities.orphan_results else _orphans_as_user(turns)
    turns = turns if capabilities.text_with_calls else _separate_text(turns)
    turns = turns if capabilities.parallel_calls else _split_parallel_calls(turns)
    turns = turns if capabilities.late_system else _late_system_as_user(turns)
    turns = turns if capabilities.system else _system_into_user(turns)
    turns = turns if capabilities.user_after_tool else _user_into_result(turns)
    turns = turns if capabilities.adjacent_users else _merged(turns)
    turns = turns if capabilities.without_user else _with_user(turns)
    return [_template_message(turn, capabilities) for turn in turns]


# ---- wire messages to turns


def _turns(message: inference.Message) -> list[_Turn]:
    results = [part for part in message.parts if isinstance(part, inference.ToolResult)]
    turns = [_result_turn(part) for part in results]
    if not results or len(results) < len(message.parts):
        role = "system" if message.role == "developer" else message.role
        turns.append(_plain_turn("user" if role == "tool" else role, message))
    return turns


def _plain_turn(role: str, message: inference.Message) -> _Turn:
    reasoning = [part.text for part in message.parts if isinstance(part, inference.Thinking)]
    calls = tuple(part for part in message.parts if isinstance(part, inference.ToolCall))
    return _Turn(role, _text(message.parts), "\n".join(reasoning), calls, name=message.name)


def _result_turn(part: inference.ToolResult) -> _Turn:
    text = _text(part.parts)
    return _Turn("tool", f"Error: {text}" if part.is_error else text, call_id=part.call_id, name=part.name)


def _text(parts: Sequence[inference.Part]) -> str:
    """Text parts and image markers, joined; blank parts beside others are dropped (some templates fail on them)."""
    pieces = [
        image_marker(part.data) if isinstance(part, inference.Image) else part.text
        for part in parts
        if isinstance(part, inference.Text | inference.Image)
    ]
    if len(pieces) == 1:
        return pieces[0]
    return "\n".join(piece for piece in pieces if piece.strip())


# ---- one step per capability


def _lead_system(turns: list[_Turn]) -> list[_Turn]:
    """Merge the system turns at the beginning."""
    head = list(takewhile(lambda turn: turn.role == "system", turns))
    if len(head) < 2:
        return turns
    return [replace(head[0], text=_joined(turn.text for turn in head)), *turns[len(head) :]]


def _named_results(turns: list[_Turn]) -> list[_Turn]:
    """Give results the name of the call they answer; some templates read it."""
    names = {call.id: call.name for turn in turns for call in turn.calls}
    return [replace(turn, name=turn.name or names.get(turn.call_id)) if turn.role == "tool" else turn for turn in turns]


def _ordered_results(turns: list[_Turn]) -> list[_Turn]:
    """Put the results behind a turn of calls in the order of the calls. Clients send them as they finish, and in a
    template that renders no ids only the order tells which is whose."""
    ordered: list[_Turn] = []
    position = 0
    while position < len(turns):
        turn = turns[position]
        results = list(takewhile(lambda later: later.role == "tool", turns[position + 1 :])) if turn.calls else []
        ordered += [turn, *_in_call_order(turn.calls, results)]
        position += 1 + len(results)
    return ordered


def _in_call_order(calls: Sequence[inference.ToolCall], results: list[_Turn]) -> list[_Turn]:
    """Each call's result; a result without an id is that of the first call that has no other. Results of other calls
    are last."""
    rest = list(results)
    found: list[_Turn | None] = []
    for call in calls:
        mine = next((result for result in rest if result.call_id == call.id), None)
        if mine is not None:
            rest.remove(mine)
        found.append(mine)
    nameless = iter([result for result in rest if not result.call_id])
    filled = [next(nameless, None) if result is None else result for result in found]
    kept = [result for result in filled if result is not None]
    return kept + [result for result in rest if not any(result is other for other in kept)]


def _calls_as_text(turns: list[_Turn]) -> list[_Turn]:
    """For templates that render no calls: calls and results as plain text."""
    shown = []
    for turn in turns:
        if turn.calls:
            calls = [
                f'<tool_call>\n{{"name": "{c.name}", "arguments": {c.arguments}}}\n</tool_call>' for c in turn.calls
            ]
            shown.append(replace(turn, text=_joined([turn.text, *calls]), calls=()))
        else:
            shown.append(_as_user(turn, "tool_response") if turn.role == "tool" else turn)
    return shown


def _orphans_as_user(turns: list[_Turn]) -> list[_Turn]:
    """Results whose call isn't in the turn of calls just before them become user turns."""
    kept: list[_Turn] = []
    asked: set[str] = set()
    for turn in turns:
        if turn.role != "tool":
            asked = {call.id for call in turn.calls}
        kept.append(_as_user(turn, "tool_response") if turn.role == "tool" and turn.call_id not in asked else turn)
    return kept


def _separate_text(turns: list[_Turn]) -> list[_Turn]:
    """Text before a call becomes a turn of its own."""
    adapted = []
    for turn in turns:
        if turn.calls and turn.text.strip():
            adapted += [replace(turn, calls=()), replace(turn, text="", reasoning="")]
        else:
            adapted.append(turn)
    return adapted


def _split_parallel_calls(turns: list[_Turn]) -> list[_Turn]:
    """Parallel calls become sequential ones: call, its result, next call …"""
    adapted: list[_Turn] = []
    position = 0
    while position < len(turns):
        turn = turns[position]
        position += 1
        if len(turn.calls) < 2:
            adapted.append(turn)
            continue
        results = list(takewhile(lambda later: later.role == "tool", turns[position:]))
        position += len(results)
        adapted += _sequential(turn, results)
    return adapted


def _sequential(turn: _Turn, results: list[_Turn]) -> list[_Turn]:
    adapted = []
    for number, call in enumerate(turn.calls):
        adapted.append(replace(turn, calls=(call,)) if number == 0 else _Turn("assistant", calls=(call,)))
        adapted += [result for result in results if result.call_id == call.id]
    answered = {call.id for call in turn.calls}
    return adapted + [result for result in results if result.call_id not in answered]


def _late_system_as_user(turns: list[_Turn]) -> list[_Turn]:
    """Later system turns become user turns in place: moved to the beginning they would invalidate the cached prefix."""
    return [
        _as_user(turn, "system-reminder") if turn.role == "system" and number else turn
        for number, turn in enumerate(turns)
    ]


def _system_into_user(turns: list[_Turn]) -> list[_Turn]:
    """The system text becomes the beginning of the first user turn."""
    if not turns or turns[0].role != "system":
        return turns
    head, rest = turns[0], turns[1:]
    if rest and rest[0].role == "user":
        return [replace(rest[0], text=_joined([head.text, rest[0].text])), *rest[1:]]
    return [replace(head, role="user"), *rest]


def _user_into_result(turns: list[_Turn]) -> list[_Turn]:
    """A user turn right after a result is appended to the result."""
    adapted: list[_Turn] = []
    for turn in turns:
        if adapted and turn.role == "user" and adapted[-1].role == "tool":
            adapted[-1] = replace(adapted[-1], text=_joined([adapted[-1].text, turn.text]))
        else:
            adapted.append(turn)
    return adapted


def _merged(turns: list[_Turn]) -> list[_Turn]:
    """Merge adjacent user turns and adjacent assistant turns; results stay separate."""
    merged: list[_Turn] = []
    for turn in turns:
        if merged and turn.role == merged[-1].role and turn.role in {"user", "assistant"}:
            last = merged[-1]
            merged[-1] = replace(
                last,
                text=_joined([last.text, turn.text]),
                reasoning=_joined([last.reasoning, turn.reasoning]),
                calls=last.calls + turn.calls,
            )
        else:
            merged.append(turn)
    return merged


def _with_user(turns: list[_Turn]) -> list[_Turn]:
    """A conversation that doesn't begin with a user turn gets one ("Go on.")."""
    head = 1 if turns and turns[0].role == "system" else 0
    if len(turns) > head and turns[head].role == "user":
        return turns
    return [*turns[:head], _Turn("user", "Go on."), *turns[head:]]


def _as_user(turn: _Turn, tag: str) -> _Turn:
    return _Turn("user", f"<{tag}>\n{turn.text}\n</{tag}>")


def _joined(texts: Any) -> str:
    return "\n\n".join(text for text in texts if text)


# ---- turns to template messages


def _template_message(turn: _Turn, capabilities: Capabilities) -> Message:
    text: Any = capabilities.empty_content if turn.calls and not turn.text else turn.text
    message: Message = {"role": turn.role, "content": _content(text, capabilities)}
    if turn.reasoning and capabilities.reasoning_key:
        message[capabilities.reasoning_key] = turn.reasoning
    if turn.calls:
        message["tool_calls"] = [_template_call(call, capabilities) for call in turn.calls]
    if turn.role == "tool":
        message["tool_call_id"] = _template_id(turn.call_id, capabilities)
    if turn.name and turn.role != "assistant":
        message["name"] = turn.name
    return message


def _content(text: str | None, capabilities: Capabilities) -> Any:
    return text if text is None or capabilities.text_content else [{"type": "text", "text": text}]


def _template_call(call: inference.ToolCall, capabilities: Capabilities) -> dict[str, Any]:
    arguments = _parsed(call) if capabilities.object_arguments else call.arguments or "{}"
    function = {"name": call.name, "arguments": arguments}
    return {"id": _template_id(call.id, capabilities), "type": "function", "function": function}


def _parsed(call: inference.ToolCall) -> dict[str, Any]:
    """The arguments as a mapping. What Python can't read as one (broken JSON, a list, nesting without end, a number of
    thousands of digits) is its only member: the model wrote it in an earlier turn, and the conversation must go on."""
    try:
        arguments = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        arguments = call.arguments
    if arguments is None:  # some clients write a call without arguments so
        return {}
    return arguments if isinstance(arguments, dict) else {"arguments": arguments}


def _template_id(call_id: str, capabilities: Capabilities) -> str:
    """`call_id`, or nine alphanumerics derived from it (the same in every turn)."""
    if capabilities.any_id or (len(call_id) == 9 and call_id.isalnum() and call_id.isascii()):
        return call_id
    alphabet = string.ascii_letters + string.digits
    return "".join(alphabet[byte % len(alphabet)] for byte in hashlib.sha256(call_id.encode()).digest()[:9])
