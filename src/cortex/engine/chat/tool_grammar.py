"""When tool calls, and what follows thinking, are held to a grammar."""

from __future__ import annotations

from collections.abc import Sequence

from cortex.engine.chat.formats.base import ReasoningFormat, ToolFormat
from cortex.engine.chat.splitting.markers import MarkerTable
from cortex.engine.chat.types import ConstraintSpec
from cortex.engine.grammar.json_schema import checked_schema, is_compilable
from cortex.engine.grammar.lark import LarkBuilder
from cortex.wire.inference import JsonSchema, Tool, ToolChoice

__all__ = ["after_reasoning", "tool_constraint"]

# More calls in one answer than any client sends at once; a small model that repeats itself has to end somewhere.
_MOST_BLOCKS = 16


def tool_constraint(
    markers: MarkerTable,
    form: ToolFormat,
    tools: Sequence[Tool],
    choice: ToolChoice,
    *,
    parallel: bool | None,
    reasoning: ReasoningFormat | None,
    starts_in_reasoning: bool,
    answer: ConstraintSpec | None = None,
) -> ConstraintSpec | None:
    """The grammar that `choice` asks for, None where the model is free. Raises InvalidSchema.

    `answer` is what a plain answer is held to where the model may give one.
    1. required or named: one block, or several unless `parallel` is false, after reasoning.
    2. auto with an `answer`: either calls or the answer.
    3. auto, and one call at most: any text, then perhaps one block.
    4. auto: free up to a block's trigger, then one valid block.
    In 3 and 4 only where the trigger is a token: a text may mention a marker that is mere text, and mustn't be turned
    into a call by that.
    """
    offered = [tool for tool in tools if not choice.only or tool.name in choice.only]
    if choice.mode == "none" or not offered:
        return None
    lark = LarkBuilder(markers)
    forced = choice.mode == "required"
    ready = [_with_schema(tool, forced=forced, place=place) for place, tool in enumerate(offered)]
    trigger = form.triggers[0].text
    body = form.grammar(lark, ready, parallel=parallel is not False)
    block = lark.rule(f"{lark.literal(trigger)} {body}")
    several = ""
    if parallel is not False and not form.holds_several:
        several = f"({lark.blanks()} {block}){{0,{_MOST_BLOCKS - 1}}}"
    calls = lark.rule(f"{block} {several}")
    if forced:
        return _thoughtful(lark, calls, reasoning, starts_in_reasoning)
    if answer is not None:
        either = lark.any_of([calls, _embedded(lark, answer, reasoning)])
        return _thoughtful(lark, either, reasoning, starts_in_reasoning)
    if not markers.is_token(trigger) or form.frames:
        return None
    if parallel is False:
        return _thoughtful(lark, f"{lark.any_text()} {block}?", reasoning, starts_in_reasoning)
    # More blocks belong to it for formats without a closing mark: there the parser waits for another call, too.
    return ConstraintSpec(lark.build(f"{body} {several}"), start="on_tool_marker")


def after_reasoning(
    spec: ConstraintSpec, markers: MarkerTable, reasoning: ReasoningFormat | None, starts_in_reasoning: bool
) -> ConstraintSpec:
    """`spec`, made for a whole answer, with room for the model's thinking (and its answer's header) before it."""
    if reasoning is None:
        return spec
    lark = LarkBuilder(markers)
    return _thoughtful(lark, _embedded(lark, spec, reasoning), reasoning, starts_in_reasoning)


def _embedded(lark: LarkBuilder, spec: ConstraintSpec, reasoning: ReasoningFormat | None) -> str:
    """The grammar of a plain answer, with the header that the model puts before one."""
    header = lark.literal(reasoning.answer) if reasoning is not None and reasoning.answer else ""
    body = lark.rule("%lark {\n" + spec.lark + "\n}")
    return f"{header} {body}"


def _with_schema(tool: Tool, *, forced: bool, place: int) -> Tool:
    """`tool` with a schema that a grammar takes.

    A tool that isn't strict has its schema enforced as far as a grammar can. In auto mode one that doesn't compile at
    all leaves the arguments any object: most requests that carry such a schema never call the tool.
    """
    schema: JsonSchema = {"type": "object", **tool.parameters}
    if not tool.strict and not forced and not is_compilable(schema, strict=False):
        schema = {"type": "object"}
    where = f"tools[{place}].parameters"
    ready = checked_schema(schema, strict=tool.strict, where=where, compact=True)
    return Tool(tool.name, tool.description, ready, tool.strict)


def _thoughtful(
    lark: LarkBuilder, answer: str, reasoning: ReasoningFormat | None, starts_in_reasoning: bool
) -> ConstraintSpec:
    """`answer` after thinking.

    Where only the close marker's token can end open thinking, the mask isn't needed before it. Otherwise thinking is
    part of the grammar: it may or may not come, or its end isn't at a token's edge.
    """
    if reasoning is None:
        return ConstraintSpec(lark.build(answer))
    blanks = lark.blanks()
    if starts_in_reasoning and lark.is_token(reasoning.close) and not reasoning.next:
        return ConstraintSpec(lark.build(f"{blanks} {answer}"), start="after_reasoning")
    following = lark.literal(reasoning.next) if reasoning.next else ""
    thought = f"{lark.until(reasoning.close)} {following} {blanks}"
    if starts_in_reasoning:
        return ConstraintSpec(lark.build(f"{thought} {answer}"))
    return ConstraintSpec(lark.build(f"({lark.literal(reasoning.open)} {thought})? {answer}"))
