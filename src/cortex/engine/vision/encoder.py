"""The images of running sequences: encoded one after the other beside the loop, computed in it when they are ready.

An encoder takes from milliseconds on a GPU to many seconds on a CPU. Streams go on meanwhile (on a CPU in alternating
time slices), so do heartbeats, and a cancelled request is dropped at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cortex.engine.llama.context import Context
from cortex.engine.llama.mtmd import Projector
from cortex.engine.scheduling.sequence import Entry, Sequence
from cortex.engine.vision.cpu_sharing import CpuSharing, CpuUser
from cortex.engine.vision.spans import Picture
from cortex.errors import CortexError, InternalError

__all__ = ["Vision"]

logger = logging.getLogger(__name__)

_WAIT_S = 0.005
"""How long a step with nothing else to do waits for an encoding: another model of this worker may be streaming."""

AnySequence = TypeVar("AnySequence", bound=Sequence)


class Vision:
    """The images of one engine. Owns `projector`. All but `_encode` runs in the loop's thread."""

    def __init__(self, projector: Projector) -> None:
        self.projector = projector
        self._thread = ThreadPoolExecutor(1, "vision")
        self._cpu = CpuSharing() if projector.interruptible else None
        if projector.interruptible and self._cpu:
            projector.interruptible.between = self._cpu.pause
        self._awaited: list[Future[list[NDArray[np.float32]]]] = []

    def encode_next(self, running: Iterable[AnySequence]) -> list[tuple[AnySequence, CortexError]]:
        """Start to encode each sequence's next image; returns the sequences whose image could not be encoded."""
        failures: list[tuple[AnySequence, CortexError]] = []
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
                failures.append((sequence, _as_cortex_error(error)))
        return failures

    def _encode(self, picture: Picture) -> list[NDArray[np.float32]]:
        with self._cpu.slice_of(CpuUser.ENCODER) if self._cpu else nullcontext():
            return self.projector.encode(picture)

    def loop_slice(self) -> AbstractContextManager[None]:
        """Held by the loop for a step: on a CPU no image is encoded meanwhile."""
        return self._cpu.slice_of(CpuUser.LOOP) if self._cpu else nullcontext()

    def wait(self) -> None:
        """Wait a few milliseconds for an image: there is nothing to compute before."""
        if self._awaited:
            wait(self._awaited, _WAIT_S)

    def decode(self, context: Context, entry: Entry[Sequence]) -> None:
        """Compute the entry's image. Raises as `Context.decode` does."""
        self.projector.decode(context, entry)
        image = entry.image
        assert image is not None
        if image is image.picture.spans[-1] and entry.start + entry.count == image.end:
            image.picture.drop()

    def free(self, then: Callable[[], None]) -> None:
        """Free the projector and call `then`, both in the encoding thread, after an encoding that still runs."""
        self._thread.submit(self._free, then)
        self._thread.shutdown(wait=False)

    def _free(self, then: Callable[[], None]) -> None:
        self.projector.close()
        then()


def _as_cortex_error(error: BaseException) -> CortexError:
    if isinstance(error, CortexError):
        return error
    logger.error("an image could not be encoded error=%r", error)
    return InternalError(f"an image could not be encoded: {type(error).__name__}: {error}")
