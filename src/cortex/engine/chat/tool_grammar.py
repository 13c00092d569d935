"""The grammars that constrain tool calls, and answers after reasoning."""

from __future__ import annotations

from collections.abc import Sequence

from cortex.engine.chat.formats.base import HasOtherBlocks, ToolFormat
from cortex.engine.chat.splitting.markers import MarkerTable, ReasoningFormat
from cortex.engine.chat.types import ConstraintSpec
from cortex.engine.grammar.json_schema import checked_schema
from cortex.engine.grammar.lark import LarkBuilder
from cortex.engine.grammar.references import type_names
from cortex.wire.inference import JsonSchema, Tool, ToolChoice

__all__ = ["after_reasoning", "tool_constraint"]

Wrappers = Sequence[tuple[str, str]]

# More calls than models make in one answer; the limit ends a small model that repeats itself.
_MAX_BLOCKS = 16


def tool_constraint(
    markers: MarkerTable,
    tool_format: ToolFormat,
    tools: Sequence[Tool],
    choice: ToolChoice,
    *,
    parallel: bool | None,
    reasoning: ReasoningFormat | None,
    starts_in_reasoning: bool,
    answer: ConstraintSpec | None = None,
) -> ConstraintSpec | None:
    """The grammar that `choice` requires, None where the output is unconstrained. Raises InvalidSchema.

    `answer` is the grammar of a plain answer, where the request has one.
    1. required or named: one block, or several unless `parallel` is false, after reasoning.
    2. auto with an `answer`: either calls or the answer.
    3. auto with `parallel` false: any text, then at most one block.
    4. auto: unconstrained up to a block's trigger, then one valid block, or the end of the output: a model that
       wants to stop there isn't forced to call.
    Wherever a call is complete the output may end, even without the block's closing marker.
    3 and 4 apply only where the trigger is a token: text may mention a marker that isn't one, and would be forced to
    become a call.
    """
    offered = [tool for tool in tools if not choice.only or tool.name in choice.only]
    if choice.mode == "none" or not offered:
        return None
    lark = LarkBuilder(markers)
    forced = choice.mode == "required"
    ready = [_with_schema(tool, index) for index, tool in enumerate(offered)]
    trigger = tool_format.triggers[0].text
    body = tool_format.grammar(lark, ready, parallel=parallel is not False)
    block = lark.rule(f"{lark.literal(trigger)} {body}")
    if isinstance(tool_format, HasOtherBlocks):
        block = lark.any_of([block, *tool_format.other_blocks(lark, ready)])
    several = ""
    if parallel is not False and not tool_format.holds_several:
        several = f"({lark.whitespace()} {block}){{0,{_MAX_BLOCKS - 1}}}"
    calls = lark.rule(f"{block} {several}")
    calls = _between_empty_wrappers(lark, calls, tool_format.wrappers)
    if forced:
        return _with_reasoning(lark, calls, reasoning, starts_in_reasoning)
    if answer is not None:
        either = lark.any_of([calls, _embedded(lark, answer, reasoning, tool_format.wrappers)])
        return _with_reasoning(lark, either, reasoning, starts_in_reasoning)
    if not markers.is_token(trigger) or tool_format.frames:
        return None
    if parallel is False:
        return _with_reasoning(
            lark, f"{lark.any_text()} ({lark.literal(trigger)} ({body})?)?", reasoning, starts_in_reasoning
        )
    # Further blocks are included for formats without a closing marker, whose parsers read on for another call.
    return ConstraintSpec(lark.build(f"({body} {several})?"), start="on_tool_marker")


def after_reasoning(
    spec: ConstraintSpec,
    markers: MarkerTable,
    reasoning: ReasoningFormat | None,
    starts_in_reasoning: bool,
    wrappers: Wrappers = (),
) -> ConstraintSpec:
    """`spec`, a grammar for a whole answer, preceded by optional reasoning and by the answer's header.

    `wrappers`: what the tool-call format may have around a plain answer.
    """
    if reasoning is None and not wrappers:
        return spec
    lark = LarkBuilder(markers)
    return _with_reasoning(lark, _embedded(lark, spec, reasoning, wrappers), reasoning, starts_in_reasoning)


def _embedded(lark: LarkBuilder, spec: ConstraintSpec, reasoning: ReasoningFormat | None, wrappers: Wrappers) -> str:
    """The grammar of a plain answer, after its header (`ReasoningFormat.answer`), inside wrappers or not."""
    body = lark.rule("%lark {\n" + spec.lark + "\n}")
    if reasoning is not None and reasoning.answer:
        return f"{lark.literal(reasoning.answer)} {body}"
    pairs = dict.fromkeys([*(reasoning.wrappers if reasoning else ()), *wrappers])
    if not pairs:
        return body
    line, ends = lark.whitespace(), [map(lark.literal, side) for side in zip(*pairs, strict=True)]
    openers, closers = (" | ".join(dict.fromkeys(side)) for side in ends)
    return lark.rule(f"(({openers}) {line})? {body} ({line} ({closers}))?")


def _between_empty_wrappers(lark: LarkBuilder, calls: str, wrappers: Wrappers) -> str:
    """`calls` after an answer without text, and before the end of the message around it (Kimi K3)."""
    if not wrappers:
        return calls
    before = " ".join(f"({lark.literal(opener)} {lark.literal(closer)})?" for opener, closer in wrappers)
    after = " | ".join(lark.literal(closer) for _, closer in wrappers)
    return lark.rule(f"{before} {calls} ({after})?")


def _with_schema(tool: Tool, index: int) -> Tool:
    """`tool` with a schema that compiles to a grammar. Raises InvalidSchema for a strict tool that has none.

    A tool that isn't strict has its schema enforced as far as a grammar can. `index` is the tool's index in the
    request, for error messages.
    """
    schema: JsonSchema = {"type": "object", **tool.parameters}
    if not tool.strict and type_names(schema["type"]) != ["object"]:
        schema["type"] = "object"  # arguments are nothing else
    where = f"tools[{index}].parameters"
    ready = checked_schema(schema, strict=tool.strict, where=where, compact=True)
    return Tool(tool.name, tool.description, ready, tool.strict)


def _with_reasoning(
    lark: LarkBuilder, answer: str, reasoning: ReasoningFormat | None, starts_in_reasoning: bool
) -> ConstraintSpec:
    """`answer` after reasoning.

    Where only the token of the closing marker can end open reasoning, no mask is needed before it. Otherwise reasoning
    is part of the grammar: it is optional, or its end isn't at a token boundary.
    """
    if reasoning is None:
        return ConstraintSpec(lark.build(answer))
    whitespace = lark.whitespace()
    if starts_in_reasoning and lark.is_token(reasoning.close) and not reasoning.next:
        return ConstraintSpec(lark.build(f"{whitespace} {answer}"), start="after_reasoning")
    following = lark.literal(reasoning.next) if reasoning.next else ""
    reasoned = f"{lark.until(reasoning.close)} {following} {whitespace}"
    if starts_in_reasoning:
        return ConstraintSpec(lark.build(f"{reasoned} {answer}"))
    return ConstraintSpec(lark.build(f"({lark.literal(reasoning.open)} {reasoned})? {answer}"))
