"""Turns what a parser reads into deltas; a tool call is announced only once it is unlikely to be plain text.

A call is announced when its name is complete and offered, and 256 characters of arguments, or the call's end, were
read. Until then the block can still be returned as text. Afterwards arguments are emitted as far as a JSON scanner
accepts them. A call whose arguments end early stays incomplete: they are never closed on the model's behalf, because
a client would run what the model didn't ask for.
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

_BUFFERED_CHARS = 256


class ToolCallEmitter:
    """Collects one choice's deltas. Parsers call `begin`, `arguments`, `end` for each tool call, in this order.

    Parsers of formats that frame the whole answer (`ToolFormat.frames`) also call `text` and `reasoning`.
    """

    def __init__(self, choice: int, tools: Mapping[str, Tool]) -> None:
        self.tools = tools
        self._calls = 0  # announced so far
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
        """Set the reader whose text is committed when something is emitted; None outside a block."""
        self._reader = reader

    def take(self) -> list[Delta]:
        """The deltas since the last call."""
        deltas, self._deltas = self._deltas, []
        return deltas

    def _emit(self, delta: Delta) -> None:
        self._deltas.append(delta)
        self.emitted += 1

    # ---- called by parsers

    def begin(self, name: str, call_id: str | None = None) -> None:
        """Begin a call of `name`. Raises Malformed if no such tool was offered: the block then stays text."""
        if name not in self.tools:
            raise Malformed
        self._pending = (name, call_id or f"call_{secrets.token_hex(12)}")
        self._held, self._held_chars = [], 0
        self._scanner = JsonScanner()

    def arguments(self, text: str) -> None:
        """Add a piece of the arguments, JSON text of one object. Raises Malformed where it isn't."""
        passed, used = self._scanner.feed(text)
        if passed and not self._held_chars and not self._open:
            passed = passed.lstrip()
            if passed and passed[0] != "{":
                raise Malformed
        self._pass(passed)
        if used < len(text) and text[used:].strip():
            raise Malformed

    def end(self) -> None:
        """End the call, with `{}` if there were no arguments. Raises Malformed if they are incomplete."""
        if not self._held_chars and not self._open:
            self.arguments("{}")
        if not self._scanner.complete:
            raise Malformed
        self._announce()
        self._end()

    def text(self, text: str) -> None:
        """Emit plain text."""
        self.in_reasoning = False
        self._plain(TextDelta(text, choice=self._choice))

    def reasoning(self, text: str) -> None:
        """Emit reasoning; an empty `text` only notes that reasoning has begun."""
        self.in_reasoning = True
        self._plain(ReasoningDelta(text, choice=self._choice))

    # ---- called by the splitter

    def abandon(self, *, cut: bool) -> None:
        """End whatever a broken or ended block left open. `cut`: the input ended at a limit, inside the block.

        A call whose arguments are complete and that only lacks its closing markup is announced; so is, after a cut,
        one whose arguments have begun. Any other is dropped. Clients take a call without any arguments for a call
        with `{}`, so that a cut before the arguments drops it too.
        """
        if self._pending is not None and (self._scanner.complete or (cut and self._held_chars)):
            self._announce()
        if self._open:
            self._end()
        self._pending = None

    # ---- internals

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
        if self._held_chars >= _BUFFERED_CHARS:
            self._announce()

    def _announce(self) -> None:
        if self._open:
            return
        assert self._pending is not None
        name, call_id = self._pending
        self._emit(ToolCallStart(self._calls, call_id, name, choice=self._choice))
        self._calls += 1
        self._open, self._pending, self.in_reasoning = True, None, False
        self._fragment("".join(self._held))
        self._commit()

    def _fragment(self, text: str) -> None:
        if text:
            shown = text if self._reader is None else self._reader.markers.decode_json(text)
            self._emit(ToolCallArguments(self._calls - 1, shown, choice=self._choice))

    def _end(self) -> None:
        self._emit(ToolCallEnd(self._calls - 1, choice=self._choice, complete=self._scanner.complete))
        self._open = False
        self._commit()

    def _commit(self) -> None:
        if self._reader is not None:
            self._reader.commit()
