"""Coroutines run at once, on the caller's stack, as far as they go without waiting. (Python 3.12 has tasks that do.)"""

from __future__ import annotations

import types
from collections.abc import Coroutine, Generator
from typing import Any

__all__ = ["begin"]

Work = Coroutine[Any, Any, None]


def begin(work: Work) -> Work | None:
    """None when `work` is done; else what is left of it, for a task. Raises what `work` raises."""
    try:
        awaited = work.send(None)
    except StopIteration:
        return None
    return _rest(work, awaited)


@types.coroutine
def _rest(work: Work, awaited: Any) -> Generator[Any, None, None]:
    """`work` from where it waits for `awaited`; a task's cancel goes on into it."""
    try:
        while True:
            try:
                yield awaited
            except BaseException as error:  # noqa: BLE001 - handed on to whom it is meant for
                awaited = work.throw(error)
            else:
                awaited = work.send(None)
    except StopIteration:
        return
