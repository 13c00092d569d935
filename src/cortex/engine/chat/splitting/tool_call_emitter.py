"""From what a parser reads to the calls a client sees: nothing is promised before it is sure enough.

A call is announced once its name is complete and offered, and 256 characters of arguments (or its end) are in. Until
then the block can still turn out to be plain text. After that the arguments stream as far as a JSON scanner accepts
them, and a block that breaks is closed so that the fragments still make one valid JSON object.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from cortex.engine.chat.splitting.json_scanner import JsonScanner
from cortex.engine.chat.splitting.reader import Malformed, Reader
from cortex.engine.chat.types import Delta
from cortex.wire.events import ReasoningDelta, TextDelta, ToolCallArguments, ToolCallEnd, ToolCallStart
from cortex.wire.inference import Tool

__all__ = ["ToolCallEmitter"]

_PROMISE_CHARS = 256


class ToolCallEmitter:
    """Collects one choice's deltas. Parsers call `begin`, `arguments`, `end` for each tool call, in this order.

    Formats that frame the whole answer also say `text` and `reasoning`.
    """

    def __init__(self, choice: int, tools: Mapping[str, Tool]) -> None:
        self.tools = tools
        self.calls = 0
        self.emitted = 0  # deltas so far
        self.in_reasoning = False
        self._choice = choice
        self._reader: Reader | None = None
        self._deltas: list[Delta] = []
        self._pending: tuple[str, str] | None = None  # name and id of the call that isn't announced yet
        self._open = False
        self._held: list[str] = []
        self._held_chars = 0
        self._scanner = JsonScanner()

    def attach(self, reader: Reader | None) -> None:
        """Name the reader whose text is committed as calls are announced; None outside a block."""
        self._reader = reader

    def take(self) -> list[Delta]:
        """The deltas since the last take."""
        deltas, self._deltas = self._deltas, []
        return deltas

    def _emit(self, delta: Delta) -> None:
        self._deltas.append(delta)
        self.emitted += 1

    # ---- what parsers say

    def begin(self, name: str, call_id: str | None = None) -> None:
        """A call of `name` begins. Raises Malformed if no such tool was offered: the block then stays text."""
        if name not in self.tools:
            raise Malformed
        self._pending = (name, call_id or f"call_{secrets.token_hex(12)}")
        self._held, self._held_chars = [], 0
        self._scanner = JsonScanner()

    def arguments(self, text: str) -> None:
        """The next piece of the arguments, JSON text of one object. Raises Malformed where it isn't."""
        passed, used = self._scanner.feed(text)
        if passed and not self._held_chars and not self._open:
            passed = passed.lstrip()
            if passed and passed[0] != "{":
                raise Malformed
        self._pass(passed)
        if used < len(text) and text[used:].strip():
            raise Malformed

    def end(self) -> None:
        """The call is complete; without any arguments they are `{}`. Raises Malformed if they are incomplete."""
        if not self._held_chars and not self._open:
            self.arguments("{}")
        if not self._scanner.complete:
            raise Malformed
        self._announce()
        self._end()

    def text(self, text: str) -> None:
        self.in_reasoning = False
        self._plain(TextDelta(text, choice=self._choice))

    def reasoning(self, text: str) -> None:
        self.in_reasoning = True
        self._plain(ReasoningDelta(text, choice=self._choice))

    # ---- what the splitter says

    def abandon(self) -> None:
        """The block broke or ended: close an announced call, keep one that only lacks its closing markup."""
        if self._pending is not None and self._scanner.complete:
            self._announce()
        if self._open:
            if not self._scanner.complete:
                self._fragment(self._scanner.close())
            self._end()
        self._pending = None

    # ---- how

    def _plain(self, delta: TextDelta | ReasoningDelta) -> None:
        if delta.text:
            self._emit(delta)
        self._commit()

    def _pass(self, text: str) -> None:
        if self._open:
            self._fragment(text)
            self._commit()
            return
        self._held.append(text)
        self._held_chars += len(text)
        if self._held_chars >= _PROMISE_CHARS:
            self._announce()

    def _announce(self) -> None:
        if self._open:
            return
        assert self._pending is not None
        name, call_id = self._pending
        self._emit(ToolCallStart(self.calls, call_id, name, choice=self._choice))
        self.calls += 1
        self._open, self._pending, self.in_reasoning = True, None, False
        self._fragment("".join(self._held))
        self._commit()

    def _fragment(self, text: str) -> None:
        if text:
            shown = self._decode(text)
            self._emit(ToolCallArguments(self.calls - 1, shown, choice=self._choice))

    def _decode(self, text: str) -> str:
        return text if self._reader is None else self._reader.markers.decode_json(text)

    def _end(self) -> None:
        self._emit(ToolCallEnd(self.calls - 1, choice=self._choice))
        self._open = False
        self._commit()

    def _commit(self) -> None:
        if self._reader is not None:
            self._reader.commit()
