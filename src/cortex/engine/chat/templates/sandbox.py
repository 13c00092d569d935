"""A Jinja environment in which a hostile template can't run code, loop for ever or exhaust memory.

Jinja's immutable sandbox keeps templates from Python's internals; it doesn't bound what they cost. Here every render
has a `Budget`, and the compiled template is instrumented to spend it:

1. entering a loop, macro or block body costs a step and the length of the literal text in the body;
2. containers built from variables, results of calls and of `+ * % ** ~` are measured, so that no value is larger than
   `MAX_VALUE` (a list that contains another list twice, nested thirty times, is cheap to build but not to print);
3. output costs its length;
4. operations whose result size depends on an argument (`ljust`, `*`, `%` widths, `**`) are checked before they run.

Exceeding a limit raises SecurityError. The deadline is checked in every step: between two steps only operations on
values of bounded size can run.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.ext import loopcontrols as LoopControls  # noqa: N812 - it is a class under a lower-case alias
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from cortex.engine.chat.templates.filters import FILTERS

__all__ = ["Budget", "TemplateEnvironment"]

MAX_STEPS = 1_000_000
MAX_VALUE = 16_000_000  # units: characters, and NODE for each container element; more than any context holds
MAX_TOTAL = 1_000_000_000
MAX_QUEUE = 256  # elements of a list that a template appends to, see _refuse_mutation
NODE = 16
_WIDTH = re.compile(r"\d{5,}|%[^a-zA-Z%]*\*|\{[^{}]*\{")


class Budget:
    """What one render may still spend: seconds, steps and units of text. Every method may raise SecurityError."""

    def __init__(self, deadline_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends = clock() + deadline_s
        self._steps = MAX_STEPS
        self._total = MAX_TOTAL
        self._sizes: dict[int, tuple[object, int]] = {}

    def step(self, units: int = 0) -> None:
        """Spend a step and `units`; also checks the deadline."""
        self._steps -= 1
        if self._steps < 0:
            raise SecurityError("the template loops too often")
        if self._clock() > self._ends:
            raise SecurityError("the template takes too long")
        self.spend(units)

    def spend(self, units: int) -> None:
        """Spend `units` of text."""
        self._total -= units
        if units > MAX_VALUE or self._total < 0:
            raise SecurityError("the template builds too much text")

    def admit(self, value: Any) -> Any:
        """Return a newly built value if its size is within bounds; values that it only refers to were spent before."""
        size = self.size(value)
        self.spend(NODE * len(value) if isinstance(value, list | tuple | dict) else size)
        return value

    def size(self, value: Any) -> int:
        """Units in `value`, shared parts counted as often as they occur. Raises SecurityError past MAX_VALUE."""
        if isinstance(value, str | bytes):
            return len(value)
        if isinstance(value, Mapping):
            return self._container(value, [*value.keys(), *value.values()])
        if isinstance(value, list | tuple | Set) or type(value).__name__ in {"dict_items", "dict_values"}:
            return self._container(value, value)
        return 1

    def _container(self, value: Any, children: Any) -> int:
        known = self._sizes.get(id(value))
        if known is not None:
            return known[1]
        total = NODE
        for child in children:
            total += NODE + self.size(child)
            if total > MAX_VALUE:
                raise SecurityError("the template builds too large a value")
        self._sizes[id(value)] = (value, total)  # the reference keeps the id from being reused
        return total

    def forget(self, value: object) -> None:
        """Drop the cached size of a value that changes."""
        self._sizes.pop(id(value), None)


class _Namespace(Namespace):
    """Jinja's namespace with a printed form that doesn't depend on its contents."""

    def __repr__(self) -> str:
        return "<namespace>"


class _Instrument(NodeTransformer):
    """Adds the accounting of the module docstring, points 1 and 2, to a template's syntax tree."""

    def _body(self, node: Any) -> Any:
        self.generic_visit(node)
        cost = nodes.ExprStmt(nodes.Filter(nodes.Const(_text_in(node.body)), "_enter", [], [], None, None))
        node.body = [cost.set_lineno(node.lineno), *node.body]
        return node

    visit_For = visit_Macro = visit_CallBlock = visit_Block = visit_FilterBlock = _body  # noqa: N815 - visitor names
    visit_AssignBlock = _body  # noqa: N815

    def _built(self, node: Any) -> Any:
        self.generic_visit(node)
        if getattr(node, "ctx", "load") != "load" or all(isinstance(child, nodes.Const) for child in _parts(node)):
            return node
        return nodes.Filter(node, "_admit", [], [], None, None).set_lineno(node.lineno)

    visit_List = visit_Tuple = visit_Dict = _built  # noqa: N815

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return nodes.Filter(node, "_admit", [], [], None, None).set_lineno(node.lineno)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return nodes.Filter(nodes.List(node.nodes), "_concat", [], [], None, None).set_lineno(node.lineno)


def _parts(node: nodes.Node) -> Sequence[nodes.Node]:
    if isinstance(node, nodes.Dict):
        return [part for pair in node.items for part in (pair.key, pair.value)]
    return list(node.iter_child_nodes())


def _text_in(body: list[nodes.Node]) -> int:
    return sum(len(data.data) for node in body for data in _template_data(node))


def _template_data(node: nodes.Node) -> list[nodes.TemplateData]:
    """The literal text directly in a body; inner loops and macros account for their own."""
    if isinstance(node, nodes.TemplateData):
        return [node]
    if isinstance(node, nodes.For | nodes.Macro):
        return []
    return [data for child in node.iter_child_nodes() for data in _template_data(child)]


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}`, which transformers uses for training masks; renders as its body."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@pass_context
def _enter(context: Context, units: int) -> None:
    _budget(context).step(units)


@pass_context
def _admit(context: Context, value: Any) -> Any:
    return _budget(context).admit(value)


@pass_context
def _concat(context: Context, values: list[Any]) -> str:
    budget = _budget(context)
    budget.spend(sum(budget.size(value) for value in values))
    return "".join(map(str, values))


@pass_context
def _write(context: Context, value: Any) -> str:
    _budget(context).admit(value)
    return str(value)


def _budget(context: Context) -> Budget:
    environment = context.environment
    assert isinstance(environment, TemplateEnvironment)
    return environment.budget


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """Jinja as chat templates expect it, with bounded cost. One render at a time; set `budget` before each."""

    intercepted_binops = frozenset({"+", "*", "%", "**"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, finalize=_write, extensions=[LoopControls, _Generation], cache_size=0
        )
        self.budget = Budget(deadline_s=1.0)
        self.filters = {**FILTERS, "_enter": _enter, "_admit": _admit, "_concat": _concat}
        del self.globals["lipsum"]
        self.globals["namespace"] = _Namespace

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        return super()._generate(_Instrument().visit(source), *args, **kwargs)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Jinja's rule, and `append` and `pop` of lists: templates keep call ids in lists."""
        if isinstance(obj, list) and attr in {"append", "pop"}:
            return True
        return super().is_safe_attribute(obj, attr, value)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        _refuse_growth(operator, left, right, self.budget)
        result = super().call_binop(context, operator, left, right)
        return result if isinstance(result, int | float) else self.budget.admit(result)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """The sandbox's `str.format`, refused where fields or widths would make its result too long."""
        formatting = super().wrap_str_format(value)
        if formatting is None:
            return None
        layout: str = value.__self__
        if _WIDTH.search(layout):
            raise SecurityError("the template formats to too great a width")

        def bounded(*args: Any, **kwargs: Any) -> str:
            self.budget.spend(layout.count("{") * self.budget.size([args, kwargs]))
            return str(formatting(*args, **kwargs))

        return bounded

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - as in Jinja
        budget = __self.budget
        budget.step()
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str):
            _refuse_method(owner, __obj.__name__, args, budget)
        elif isinstance(owner, list):
            _refuse_mutation(owner, __obj.__name__, args, budget)
        return budget.admit(super().call(__context, __obj, *args, **kwargs))


def _refuse_growth(operator: str, left: Any, right: Any, budget: Budget) -> None:
    if operator == "**" and (not isinstance(right, int | float) or abs(right) > 64 or abs(left) > 1 << 32):
        raise SecurityError("the template raises to too high a power")
    if operator == "*":
        _refuse_product(left, right, budget)
    if operator == "%" and isinstance(left, str):
        if _WIDTH.search(left):
            raise SecurityError("the template formats to too great a width")
        budget.spend(left.count("%") * budget.size(right))
    if operator == "+" and not isinstance(left, int | float):
        budget.spend(budget.size(left) + budget.size(right))


def _refuse_product(left: Any, right: Any, budget: Budget) -> None:
    if isinstance(left, int) and isinstance(right, int):
        if left.bit_length() + right.bit_length() > 1024:
            raise SecurityError("the template multiplies to too large a number")
        return
    times = left if isinstance(left, int) else right
    if isinstance(times, int) and not isinstance(left, float) and not isinstance(right, float):
        budget.spend(max(times, 0) * (budget.size(right if times is left else left)))


def _refuse_method(owner: str, name: str, args: tuple[Any, ...], budget: Budget) -> None:
    """Spend the size of a string method's result where its arguments determine it."""
    if name in {"ljust", "rjust", "center", "zfill", "expandtabs"}:
        budget.spend(sum(abs(arg) for arg in args if isinstance(arg, int)) * max(1, owner.count("\t")))
    elif name == "replace" and len(args) > 1 and isinstance(args[0], str) and isinstance(args[1], str):
        budget.spend(len(owner) + owner.count(args[0]) * len(args[1]))
    elif name == "join" and args and isinstance(args[0], Sequence):
        budget.spend(sum(budget.size(part) + len(owner) for part in args[0]))
    elif name in {"split", "rsplit", "splitlines"}:
        separators = [args[0]] if args and isinstance(args[0], str) and args[0] else [" ", "\n", "\t"]
        budget.spend(NODE * sum(owner.count(separator) for separator in separators))
    elif name in {"translate", "encode"}:
        raise SecurityError(f"templates may not call str.{name}")


def _refuse_mutation(owner: list[Any], name: str, args: tuple[Any, ...], budget: Budget) -> None:
    """Allow only queues of a few short scalars: a container of such a list was measured before the list grew."""
    short = all(isinstance(arg, str | int) and budget.size(arg) < 4096 for arg in args)
    if name == "append" and (len(owner) >= MAX_QUEUE or not short):
        raise SecurityError("the template appends too much to a list")
    if name in {"append", "pop"}:
        budget.forget(owner)
