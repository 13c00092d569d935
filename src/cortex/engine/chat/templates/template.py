"""A compiled chat template, rendered with bounded cost; its failures are BadRequest or ModelLoadFailed."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, Undefined, meta

from cortex.engine.chat.templates.sandbox import Budget, TemplateEnvironment
from cortex.errors import BadRequest, ModelLoadFailed

__all__ = ["FALLBACK", "ChatTemplate", "Message", "TemplateRejected"]

Message = dict[str, Any]
"""A message as templates see it: a dict, since Jinja reads dicts."""

MAX_SOURCE = 1 << 20  # characters
# A bound for hostile templates: llama.cpp's 70 templates take 0.6 ms for a short history (median; 7 ms at most), one
# core of a two-core machine, November 2026.
DEADLINE_S = 5.0

FALLBACK = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
"""
"""For a GGUF without a chat template: ChatML, the layout that most such models were trained on."""


class TemplateRejected(BadRequest):
    """The template refused these messages (`raise_exception`), or failed on them."""


class ChatTemplate:
    """One compiled template. Thread-safe: a lock serialises renders, which share one environment."""

    def __init__(self, source: str, *, bos: str = "", eos: str = "", now: Callable[[], datetime] | None = None) -> None:
        """Raises ModelLoadFailed if `source` doesn't compile."""
        self._now = now or (lambda: datetime.now().astimezone())
        self._environment = TemplateEnvironment()
        self._environment.globals.update(
            raise_exception=_raise_exception, strftime_now=self._strftime_now, bos_token=bos, eos_token=eos
        )
        self._lock = threading.Lock()
        self._template = self._compile(source)
        self.variables = frozenset(meta.find_undeclared_variables(self._environment.parse(source)))
        """Names that the template reads and doesn't set."""

    def render(self, variables: Mapping[str, Any], *, deadline_s: float = DEADLINE_S) -> str:
        """The prompt for `variables` (messages, tools, add_generation_prompt, kwargs).

        Raises TemplateRejected, also when rendering takes longer than `deadline_s` seconds.
        """
        with self._lock:
            self._environment.budget = Budget(deadline_s)
            try:
                return str(self._template.render({**self._legacy_variables(variables), **variables}))
            except TemplateRejected:
                raise
            except TemplateError as error:
                raise TemplateRejected(
                    f"the model's chat template failed: {error.message}", param="messages"
                ) from error
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
                # Raised by Python in expressions over client data that isn't shaped as the template expects.
                message = f"the model's chat template can't render these messages: {type(error).__name__}: {error}"
                raise TemplateRejected(message, param="messages") from error

    def _compile(self, source: str) -> Template:
        if len(source) > MAX_SOURCE:
            raise ModelLoadFailed(f"the chat template has {len(source)} characters; at most {MAX_SOURCE} are read")
        try:
            return self._environment.from_string(source)
        except TemplateError as error:
            line = getattr(error, "lineno", None)
            raise ModelLoadFailed(f"the chat template doesn't compile: {error.message} (line {line})") from error
        except (RecursionError, SyntaxError, MemoryError, ValueError) as error:
            raise ModelLoadFailed(f"the chat template doesn't compile: {error}") from error

    def _legacy_variables(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """What the tokenizer code of some older models passed to their templates: the tools as text, and the time."""
        tools = json.dumps(variables.get("tools") or [], ensure_ascii=False, indent=2)
        legacy = {"functions": tools, "datetime": self._strftime_now("%b %d %Y %H:%M:%S GMT")}
        return {name: value for name, value in legacy.items() if name in self.variables}

    def _strftime_now(self, layout: str) -> str:
        return self._now().strftime(layout[:256])


def _raise_exception(message: object = "") -> NoReturn:
    text = "" if isinstance(message, Undefined) else str(message)
    raise TemplateRejected(f"the model's chat template refuses these messages: {text}", param="messages")
