"""How fast the bare engine is, without sockets and servers: tokens per second by streams, and Python's share.

    python contrib/bench/engine.py MODEL.gguf [--streams 1 4 8 16] [--threads 2] [--profile]

Each row decodes 128 tokens per stream at temperature 0.8. `sampling` (in C) and `Python` are CPU time of this thread
per token, which other processes on the machine don't change.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time

from cortex.engine.engine import Engine
from cortex.engine.llama import library
from cortex.engine.llama.sampler import Sampler
from cortex.engine.loading import load
from cortex.wire.events import Failed
from cortex.wire.inference import InferenceRequest, Sampling
from cortex.wire.worker import LoadSpec

PROMPT = "Once upon a time, number {} of the seven travellers said:"


class Stopwatch:
    """CPU seconds of this thread inside one method, which it wraps."""

    def __init__(self, owner: object, name: str) -> None:
        self.seconds = 0.0
        inner = getattr(owner, name)

        def timed(*arguments: object) -> object:
            began = time.thread_time()
            try:
                return inner(*arguments)
            finally:
                self.seconds += time.thread_time() - began

        setattr(owner, name, timed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--lookup", action="store_true", help="allow guesses from the text itself")
    parser.add_argument("--profile", action="store_true", help="show where Python's time goes")
    options = parser.parse_args()

    tap = library.LogTap()
    tap.install()
    library.start_backend()
    spec = LoadSpec("m", options.model, 4096, parallel=max(options.streams), prompt_lookup=options.lookup)
    loaded = load(spec, tap, lambda _: None, options.threads)
    engine = loaded.engine
    assert isinstance(engine, Engine)
    decode = Stopwatch(engine._context, "decode")  # noqa: SLF001 - measured from outside on purpose
    sample = Stopwatch(Sampler, "sample")
    profile = cProfile.Profile()
    for streams in options.streams:
        for number in range(streams):
            request = InferenceRequest(
                id=f"{streams}-{number}",
                model="m",
                prompt=PROMPT.format(number),
                max_output=options.tokens,
                sampling=Sampling(temperature=0.8, seed=number, ignore_eos=True),
            )
            loaded.prepare(request)(time.monotonic())
        while any(sequence.computed == 0 for sequence in engine.scheduler.running) or engine.scheduler.waiting:
            engine.step()
        decode.seconds = sample.seconds = 0.0
        before = engine.stats().completion_tokens
        began, began_cpu = time.perf_counter(), time.thread_time()
        if options.profile:
            profile.enable()
        while engine.busy:
            for emission in engine.step():
                assert not any(isinstance(event, Failed) for event in emission.events)
        profile.disable()
        seconds = time.perf_counter() - began
        tokens = engine.stats().completion_tokens - before
        python = time.thread_time() - began_cpu - decode.seconds - sample.seconds
        print(
            f"{streams:3d} streams  {tokens / seconds:7.1f} tok/s  per token: "
            f"{sample.seconds / tokens * 1e6:5.1f} us sampling, {python / tokens * 1e6:5.1f} us Python"
        )
    if options.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
    engine.close()
    loaded.free(lambda: None)


if __name__ == "__main__":
    main()
