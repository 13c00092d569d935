"""The images of running sequences: encoded one after the other beside the loop, computed in it when they are ready.

An encoder takes from milliseconds on a GPU to many seconds on a CPU. Streams go on meanwhile (on a CPU in turns with
it), so do heartbeats, and a request that is cancelled is gone at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext

import numpy as np
from numpy.typing import NDArray

from cortex.engine.llama.context import Context
from cortex.engine.llama.mtmd import Projector
from cortex.engine.scheduling.scheduler import Entry
from cortex.engine.scheduling.sequence import Sequence
from cortex.engine.vision.cpu_sharing import CpuSharing, Side
from cortex.engine.vision.spans import Picture
from cortex.errors import CortexError, InternalError

__all__ = ["Vision"]

logger = logging.getLogger(__name__)

_NAP_S = 0.005
"""How long a step with nothing else to do waits for an encoding: another model of this worker may be streaming."""


class Vision:
    """For one engine. `projector` belongs to it from here on."""

    def __init__(self, projector: Projector) -> None:
        self.projector = projector
        self._thread = ThreadPoolExecutor(1, "vision")
        self._turns = CpuSharing() if projector.pieces else None
        if projector.pieces and self._turns:
            projector.pieces.between = self._turns.pause
        self._awaited: list[Future[list[NDArray[np.float32]]]] = []

    def encode_next(self, running: Iterable[Sequence]) -> list[tuple[Sequence, CortexError]]:
        """Have each sequence's next image encoded; the sequences whose image can't be."""
        failures: list[tuple[Sequence, CortexError]] = []
        self._awaited = []
        for sequence in running:
            if not sequence.tokens.images:
                continue
            image = sequence.image or sequence.tokens.next_image(sequence.computed)
            if image is None:
                continue
            picture = image.picture
            if picture.encoding is None:
                picture.dropped = False
                picture.encoding = self._thread.submit(self._encode, picture)
            if not picture.encoding.done():
                self._awaited.append(picture.encoding)
            elif error := picture.encoding.exception():
                failures.append((sequence, _as_ours(error)))
        return failures

    def _encode(self, picture: Picture) -> list[NDArray[np.float32]]:
        with self._turns.of(Side.ENCODER) if self._turns else nullcontext():
            return self.projector.encode(picture)

    def turn(self) -> AbstractContextManager[None]:
        """For a step of the loop: on a CPU no image is encoded meanwhile."""
        return self._turns.of(Side.LOOP) if self._turns else nullcontext()

    def nap(self) -> None:
        """There is nothing to compute before an image is ready."""
        if self._awaited:
            wait(self._awaited, _NAP_S)

    def decode(self, context: Context, entry: Entry) -> None:
        """Compute the entry's image. Raises as `Context.decode` does."""
        self.projector.decode(context, entry)
        image = entry.image
        assert image is not None
        if image is image.picture.spans[-1] and entry.start + entry.count == image.end:
            image.picture.forget()

    def free(self, then: Callable[[], None]) -> None:
        """Give the projector's memory back and do what may only come after it; behind an encoding that runs."""
        self._thread.submit(self._free, then)
        self._thread.shutdown(wait=False)

    def _free(self, then: Callable[[], None]) -> None:
        self.projector.close()
        then()


def _as_ours(error: BaseException) -> CortexError:
    if isinstance(error, CortexError):
        return error
    logger.error("an image could not be encoded error=%r", error)
    return InternalError(f"an image could not be encoded: {type(error).__name__}: {error}")
