"""Samplers on the device: which requests use them, what llama.cpp's table holds, and that the text is the CPU's.

llama.cpp's CPU backend runs them, too, so no GPU is needed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortex.engine.engine import Engine
from cortex.engine.kv.slot import Slot
from cortex.engine.kv.tokens import TokenBuffer
from cortex.engine.llama import library
from cortex.engine.loading import LoadedModel, load
from cortex.engine.request.output import PreparedRequest
from cortex.engine.request.state import ChoiceState
from cortex.engine.sampling.device import BackendSampling, may_sample_on_device
from cortex.engine.sampling.params import DEFAULTS
from cortex.engine.tools.memory_plan import planned_sizes
from cortex.wire.events import Event, Failed, Finished, TextDelta
from cortex.wire.inference import Grammar, InferenceRequest, Sampling
from cortex.wire.worker import LoadSpec
from tests.engine.harness import only, raw, text_of
from tests.models import smollm2

SEEDED = Sampling(temperature=1.0, seed=7)


class Stepped:
    """A model in this process, stepped by the test."""

    def __init__(self, spec: LoadSpec) -> None:
        tap = library.LogTap()
        tap.install()
        library.start_backend()
        self.loaded: LoadedModel = load(spec, tap, lambda _: None, 1)
        assert isinstance(self.loaded.engine, Engine)
        self.engine = self.loaded.engine
        self.events: dict[str, list[Event]] = {}

    def submit(self, request: InferenceRequest) -> str:
        self.loaded.prepare(request)(time.monotonic())
        return request.id

    def step(self) -> None:
        for emission in self.engine.step():
            self.events.setdefault(emission.request_id, []).extend(emission.events)

    def finish(self, *names: str) -> None:
        for _ in range(2000):
            if all(self.events.get(name) and isinstance(self.events[name][-1], Finished | Failed) for name in names):
                return
            self.step()
        raise AssertionError(f"no end of {names}")

    def text(self, name: str, prompt: str, **fields: Any) -> str:
        self.finish(self.submit(raw(name, prompt, **fields)))
        assert isinstance(self.events[name][-1], Finished), self.events[name]
        return text_of(self.events[name])

    def close(self) -> None:
        self.engine.close()
        self.loaded.free(lambda: None)


@pytest.fixture(scope="module")
def scripted_spec(scripted_path: Path) -> LoadSpec:
    return LoadSpec("m", str(scripted_path), context=512, parallel=3, backend_sampling=True)


@pytest.fixture(scope="module")
def scripted_model(scripted_spec: LoadSpec) -> Iterator[Stepped]:
    model = Stepped(scripted_spec)
    yield model
    model.close()


@pytest.fixture(scope="module")
def smol_model() -> Iterator[Stepped]:
    model = Stepped(LoadSpec("m", str(smollm2()), context=512, parallel=2, backend_sampling=True))
    yield model
    model.close()


# ---- which requests may


def prepared_request(sampling: Sampling = DEFAULTS, **fields: Any) -> PreparedRequest:
    own = {name: fields.pop(name) for name in ("constraints", "scored_from") if name in fields}
    return PreparedRequest(raw("r", "x", **fields), [1], 8, sampling.merged_over(DEFAULTS), **own)


@pytest.mark.parametrize(
    ("prepared", "may"),
    [
        (prepared_request(), True),
        (prepared_request(Sampling(temperature=0.0)), True),
        (prepared_request(Sampling(top_k=0)), False),
        (prepared_request(logprobs=0), False),
        (prepared_request(scored_from=1), False),
        (prepared_request(constraints=[object()]), False),
    ],
    ids=["plain", "greedy", "whole vocabulary", "logprobs", "scored prompt", "grammar"],
)
def test_only_requests_that_need_no_logits_are_sampled_on_the_device(prepared: PreparedRequest, may: bool) -> None:
    assert may_sample_on_device(prepared, 1000) is may


# ---- llama.cpp's table, by a fake with its rules


class Table:
    """The part of a context that concerns samplers. `refuses`: takes no chain at all."""

    def __init__(self, *, backend_sampling: bool = True, refuses: bool = False) -> None:
        self.backend_sampling = backend_sampling
        self.refuses = refuses
        self.chains: dict[int, Chain] = {}
        self.changes = 0

    def set_sampler(self, slot: int, chain: Chain | None) -> bool:
        self.changes += 1
        self.chains.pop(slot, None)
        if chain is None or self.refuses:
            return chain is None
        assert not chain.planned, "llama.cpp ends the process"
        chain.planned = True
        self.chains[slot] = chain
        return True


class Chain:
    def __init__(self) -> None:
        self.planned = self.freed = False


class FakeSampler:
    """A `Sampler` that can be lent, without llama.cpp. `offloaded`: whether the device computes all of it."""

    def __init__(self, *, offloaded: bool = True) -> None:
        self.chain = Chain()
        self.offloaded = offloaded
        self.lent = self.closed = False

    @property
    def members(self) -> tuple[str, ...]:
        return ("+top-k", "+dist" if self.offloaded else "-dist") if self.lent else ("top-k", "dist")

    def lend(self) -> Chain:
        assert not self.lent
        self.lent = True
        return self.chain

    def take_back(self) -> None:
        assert self.lent
        self.lent = False
        self.chain.freed = True
        self.chain = Chain()

    def close(self) -> None:
        self.closed = True


def choice(slot: int, sampler: FakeSampler | None = None, *, on_device: bool = True) -> ChoiceState:
    tokens, unused, mine = TokenBuffer([1]), cast("Any", None), cast("Any", sampler or FakeSampler())
    return ChoiceState(
        request_id="r",
        number=0,
        tokens=tokens,
        prompt_length=1,
        arrival=0,
        slot=Slot(slot, tokens, None),
        request=unused,
        sampler=mine,
        output=unused,
        on_device=on_device,
    )


def sampling_on(table: Table) -> BackendSampling:
    context: Any = table
    return BackendSampling("m", context)


@settings(max_examples=60)
@given(
    st.lists(st.dictionaries(st.integers(0, 3), st.tuples(st.integers(0, 5), st.booleans()), max_size=4), max_size=12)
)
def test_every_sequence_finds_its_own_sampler_in_the_table_and_no_freed_one_stays(
    steps: list[dict[int, tuple[int, bool]]],
) -> None:
    """Sequences come, go, move to other ids and come back, between one decode and the next."""
    table = Table()
    device = sampling_on(table)
    samplers = {number: FakeSampler() for number in range(6)}
    for step in steps:
        placed = {number: (slot, on) for slot, (number, on) in step.items()}
        running = [choice(slot, samplers[number], on_device=number % 2 == 0) for number, (slot, _) in placed.items()]
        device.update(running)
        for each in running:
            assert each.slot is not None
            mine: Any = each.sampler
            assert table.chains.get(each.slot.id) is (mine.chain if each.on_device else None)
        assert not [chain for chain in table.chains.values() if chain.freed]
        assert device.slots == sorted(table.chains)
    device.close()
    assert not table.chains
    assert not [sampler for sampler in samplers.values() if sampler.lent]


def test_an_ended_sequence_leaves_with_the_next_change() -> None:
    """Every change makes llama.cpp plan its graphs anew: one per request is enough."""
    table = Table()
    device = sampling_on(table)
    device.update([choice(0)])
    device.update([])
    assert (device.slots, table.changes) == ([0], 1)
    device.update([choice(1)])
    assert device.slots == [1]
    device.update([choice(1, on_device=False)])
    assert device.slots == []


@pytest.mark.parametrize("offloaded", [True, False], ids=["refused", "taken in part"])
def test_what_the_device_does_not_take_whole_stays_on_the_cpu_and_is_logged_once(
    offloaded: bool, caplog: pytest.LogCaptureFixture
) -> None:
    table = Table(refuses=offloaded)
    device = sampling_on(table)
    with caplog.at_level(logging.WARNING):
        for slot in (0, 1):
            refused = choice(slot, FakeSampler(offloaded=offloaded))
            device.update([refused])
            assert not refused.on_device
    assert not table.chains
    assert len(caplog.records) == 1


def test_switched_off_nobody_asks_llama_cpp() -> None:
    table = Table(backend_sampling=False)
    device = sampling_on(table)
    assert not device.wants(prepared_request())
    device.update([choice(0)])
    device.close()
    assert table.changes == 0


# ---- llama.cpp itself


def test_requests_of_both_kinds_run_in_one_batch(scripted_model: Stepped) -> None:
    regex = Grammar("regex", "(Hello|world|, |!)+")
    names = [
        scripted_model.submit(raw("drawn", "mix<|go|>", sampling=SEEDED)),
        scripted_model.submit(raw("with logprobs", "mix<|go|>", logprobs=1, sampling=SEEDED)),
        scripted_model.submit(raw("with a grammar", "mix<|go|>", format=regex, max_output=3)),
    ]
    seen: set[tuple[int, ...]] = set()
    while not all(name in scripted_model.events for name in names):
        scripted_model.step()
        seen.add(tuple(scripted_model.engine.backend_sampling.slots))
    scripted_model.finish(*names)
    drawn, with_logprobs, with_a_grammar = (scripted_model.events[name] for name in names)
    assert text_of(drawn) == text_of(with_logprobs) == "Hello, world 😀!"
    assert text_of(with_a_grammar) == "Hello, world"
    assert [e.logprobs for e in with_logprobs if isinstance(e, TextDelta) and e.logprobs]
    assert max(map(len, seen)) == 1


def test_an_id_passes_from_one_request_to_the_next(scripted_model: Stepped) -> None:
    """From device to device, and on to one that needs its logits: that one must not find the other's sampler."""
    whole = "Hello, world 😀!"
    for name, fields in (("first", {}), ("second", {}), ("third", {"logprobs": 1}), ("fourth", {})):
        asked = {"sampling": SEEDED, "cache_prompt": False, **fields}
        assert scripted_model.text(f"passed to {name}", "say<|go|>", **asked) == whole
    assert len(scripted_model.engine.backend_sampling.slots) == 1


def test_a_request_cancelled_in_mid_stream_leaves_the_others_going(scripted_model: Stepped) -> None:
    scripted_model.submit(raw("cancelled", "x<|loop|>", max_output=400, sampling=SEEDED))
    staying = scripted_model.submit(raw("staying", "y<|loop|>", max_output=40, sampling=SEEDED))
    while not scripted_model.events.get("cancelled"):
        scripted_model.step()
    scripted_model.engine.cancel("cancelled")
    scripted_model.finish(staying)
    assert text_of(scripted_model.events[staying]) == "tick tock " * 20
    assert scripted_model.text("after", "say<|go|>", sampling=SEEDED) == "Hello, world 😀!"


def test_a_preempted_sequence_is_sampled_on_under_its_next_id(scripted_spec: LoadSpec) -> None:
    model = Stepped(msgspec.structs.replace(scripted_spec, kv_cells=256))
    try:
        names = [model.submit(raw(f"long {i}", "p<|loop|>", max_output=150, sampling=SEEDED)) for i in range(3)]
        model.finish(*names)
        assert model.engine.scheduler.preemptions > 0
        assert {text_of(model.events[name]) for name in names} == {"tick tock " * 75}
        assert only(model.events["long 2"], Finished).usage.completion_tokens == 150
    finally:
        model.close()


def test_nothing_is_guessed_for_a_sequence_that_the_device_samples(scripted_model: Stepped) -> None:
    """llama.cpp would refuse the whole batch: it samples one row of a sequence at a time."""
    scripted_model.text("repeats itself", "x<|loop|>", max_output=60)
    assert only(scripted_model.events["repeats itself"], Finished).timings.draft_tokens == 0


@pytest.mark.model
def test_the_plan_of_a_load_counts_the_samplers(smol_model: Stepped) -> None:
    """Above all their copy of the logits, 49k numbers for each of a physical batch's 512 tokens."""
    spec = smol_model.loaded.spec
    plain = msgspec.structs.replace(spec, backend_sampling=False)
    planned, without = (sum(planned_sizes(each).compute.values()) for each in (spec, plain))
    assert planned - without > 512 * 49_000 * 4


@pytest.mark.model
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.0),
        SEEDED,
        Sampling(temperature=1.3, seed=8, repeat_penalty=1.3, presence_penalty=0.5, logit_bias={198: -5.0}),
    ],
    ids=["greedy", "seeded", "seeded with penalties and biases"],
)
def test_the_device_says_what_the_cpu_would(
    smol_model: Stepped, sampling: Sampling, request: pytest.FixtureRequest
) -> None:
    """A request with log-probabilities is sampled on the CPU: the same text, and twice the same."""
    asked: dict[str, Any] = {"max_output": 12, "sampling": sampling, "cache_prompt": False}
    name, prompt = request.node.name, "Once upon a time there was a small robot who"
    on_device = [smol_model.text(f"{name} {number}", prompt, **asked) for number in range(2)]
    assert smol_model.engine.backend_sampling.slots
    assert on_device == [smol_model.text(f"{name} on the CPU", prompt, logprobs=0, **asked)] * 2
    assert not smol_model.engine.backend_sampling.slots


@pytest.mark.model
def test_no_cancel_cuts_a_batch_short_in_which_the_device_draws(smol_model: Stepped) -> None:
    """The random numbers of that batch are gone; drawn anew, the other's text would not be that of its seed."""
    engine = smol_model.engine
    smol_model.submit(raw("drawing", "Once", max_output=100, sampling=SEEDED))
    while not smol_model.events.get("drawing"):
        smol_model.step()
    smol_model.submit(raw("cancelled", "The quick brown fox jumps over the lazy dog. " * 12, cache_prompt=False))
    stepped = threading.Event()

    def cancel() -> None:
        while not stepped.wait(0.001):
            engine.abort_prefill_of("cancelled")

    canceller = threading.Thread(target=cancel)
    canceller.start()
    smol_model.step()
    stepped.set()
    canceller.join()
    assert [sequence.request_id for sequence in engine.scheduler.running if sequence.computed] == [
        "drawing",
        "cancelled",
    ]
    for name in ("drawing", "cancelled"):
        engine.cancel(name)
