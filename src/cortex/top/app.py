"""The loop of `cortex top`: the main thread reads keys and draws, a second one makes the HTTP calls."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from functools import partial

from rich.console import Console, Group
from rich.live import Live

from cortex.errors import CortexError
from cortex.operator.client import FleetApi
from cortex.top.commands import on_key
from cortex.top.keys import Keyboard
from cortex.top.state import Action, TopState, on_done, on_snapshot, on_unreachable
from cortex.top.view import draw, height_of_all

__all__ = ["perform", "run", "run_once"]


def run_once(api: FleetApi, console: Console) -> None:
    """Print one frame with every row (`cortex top --once`). Raises CortexError if the gateway can't be reached."""
    state = on_snapshot(TopState(url=api.url, show_unloaded=True), api.fleet())
    console.print(Group(*draw(state, console.width, height_of_all(state))))


def run(api: FleetApi, console: Console, interval_s: float = 1.0) -> None:
    """Draw until q or Ctrl-C is pressed. An unreachable gateway is reported in the footer and polled again."""
    poller = _Poller(api, interval_s)
    state = TopState(url=api.url)
    with Keyboard() as keyboard, Live(console=console, screen=True, auto_refresh=False) as live:
        poller.start()
        try:
            while not state.quit:
                state = poller.apply_to(state)
                live.update(Group(*draw(state, console.width, console.height)), refresh=True)
                for key in keyboard.wait(0.1):
                    state, action = on_key(state, key)
                    if action:
                        poller.do(action)
        except KeyboardInterrupt:
            pass  # Ctrl-C ends the program like q
        finally:
            poller.stop()


class _Poller(threading.Thread):
    """Polls the fleet every `interval_s` and carries out actions, so that a slow gateway doesn't freeze the screen.

    Results are queued as functions from the old state to the new one; the main thread applies them.
    """

    def __init__(self, api: FleetApi, interval_s: float) -> None:
        super().__init__(daemon=True, name="poller")
        self._api = api
        self._interval_s = interval_s
        self._changes: queue.SimpleQueue[Callable[[TopState], TopState]] = queue.SimpleQueue()
        self._actions: queue.SimpleQueue[Action | None] = queue.SimpleQueue()
        self._stopping = False

    def run(self) -> None:
        while not self._stopping:
            self._poll()
            with contextlib.suppress(queue.Empty):
                action = self._actions.get(timeout=self._interval_s)
                if action is not None:
                    self._perform(action)

    def _poll(self) -> None:
        try:
            fleet = self._api.fleet()
        except CortexError as error:
            self._changes.put(partial(on_unreachable, reason=error.message))
        else:
            self._changes.put(partial(on_snapshot, fleet=fleet))

    def _perform(self, action: Action) -> None:
        try:
            perform(self._api, action)
        except CortexError as error:
            outcome = f"{action.kind} {action.target}: {error.message}"
        else:
            outcome = f"{action.kind} {action.target}: done"
        self._changes.put(partial(on_done, outcome=outcome))

    def do(self, action: Action) -> None:
        """Carry out `action` before the next poll. Called by the main thread."""
        self._actions.put(action)

    def stop(self) -> None:
        """End after the call that is being made. Called by the main thread."""
        self._stopping = True
        self._actions.put(None)

    def apply_to(self, state: TopState) -> TopState:
        """`state` after all queued results. Called by the main thread."""
        while not self._changes.empty():
            state = self._changes.get()(state)
        return state


def perform(api: FleetApi, action: Action) -> None:
    """Carry out a confirmed action. Raises CortexError."""
    match action.kind:
        case "unload":
            api.unload(action.target)
        case "load":
            api.load(action.target)
        case "pin" | "unpin":
            api.pin(action.target, action.kind == "pin")
        case "drain" | "resume":
            api.drain(action.target, action.kind == "drain")
        case "cancel":
            api.cancel(action.target)
