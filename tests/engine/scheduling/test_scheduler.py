"""What the scheduler guarantees, on a simulated memory."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cortex.engine.kv.slot import Reuse
from tests.engine.simulation import Simulation


def tokens(count: int, seed: int = 0) -> list[int]:
    return [seed * 10_000 + i for i in range(count)]


def simulation(**sizes: object) -> Simulation:
    settings_ = {"cells": 4096, "slots": 16, "parallel": 8, "reuse": Reuse.PARTIAL, **sizes}
    return Simulation(**settings_)  # type: ignore[arg-type]


def test_running_streams_get_a_token_in_every_step_while_a_long_prompt_arrives() -> None:
    sim = simulation()
    streams = [sim.submit(tokens(20, seed), 500) for seed in range(1, 5)]
    sim.step(256)
    sim.submit(tokens(2000, 9), 5)
    for _ in range(20):
        entries = sim.step(64)
        assert {entry.sequence for entry in entries} >= set(streams)


def test_prefill_stays_within_its_budget_and_goes_first_come_first_served() -> None:
    sim = simulation()
    first, second = sim.submit(tokens(100, 1), 1), sim.submit(tokens(100, 2), 1)
    assert [(entry.sequence, entry.count) for entry in sim.step(64)] == [(first, 64)]
    assert [(entry.sequence, entry.count) for entry in sim.step(64)] == [(first, 36), (second, 28)]


def test_a_higher_class_is_admitted_before_earlier_requests() -> None:
    sim = simulation(parallel=1)
    running = sim.submit(tokens(10, 1), 3)
    ordinary = sim.submit(tokens(10, 2), 3)
    urgent = sim.submit(tokens(10, 3), 3, priority=10)
    sim.run()
    assert sim.finished == [urgent, running, ordinary]


def test_a_prefix_that_is_being_computed_is_waited_for_and_computed_once() -> None:
    sim = simulation()
    shared = tokens(2000, 1)
    for seed in range(2, 10):
        sim.submit(shared + tokens(10, seed), 3)
    sim.run(budget=256)
    assert sim.computed_tokens < 2000 + 8 * 20


def test_a_following_turn_reuses_all_but_its_own_words() -> None:
    sim = simulation()
    turn = sim.submit(tokens(500, 1), 20)
    sim.run()
    following = sim.submit([*turn.tokens.view().tolist(), *tokens(10, 2)], 1)
    sim.run()
    assert following.cached == len(turn.tokens) - 1 or following.cached == len(turn.tokens)


def test_prefixes_are_never_shared_across_principals_when_isolated() -> None:
    sim = simulation(isolate=True)
    sim.submit(tokens(300, 1), 2, principal="alice")
    sim.run()
    stranger = sim.submit(tokens(300, 1), 2, principal="mallory")
    same = sim.submit(tokens(300, 1), 2, principal="alice")
    sim.run()
    assert stranger.cached == 0
    assert same.cached == 299


def test_a_short_pool_preempts_the_youngest_and_everyone_still_finishes() -> None:
    sim = simulation(cells=120, parallel=4)
    oldest = sim.submit(tokens(20, 1), 90)
    others = [sim.submit(tokens(20, seed), 60) for seed in range(2, 5)]
    sim.run()
    assert sim.scheduler.preemptions > 0
    assert oldest.preemptions == 0
    assert {*others, oldest} == set(sim.finished)


def test_cached_prefixes_are_dropped_before_anyone_is_preempted() -> None:
    sim = simulation(cells=200)
    for seed in range(1, 4):
        sim.submit(tokens(50, seed), 1)
        sim.run()
    sim.submit(tokens(150, 9), 40)
    sim.run()
    assert sim.scheduler.preemptions == 0


def test_guesses_are_taken_back_when_the_model_disagrees() -> None:
    sim = simulation()
    sequence = sim.submit(tokens(20, 1), 10)
    while not sim.idle:
        sim.step(64, guesses=4)
    assert len(sequence.tokens) == 20 + 9


def test_guesses_are_part_of_a_batch_and_not_of_the_text() -> None:
    sim = simulation()
    sequence = sim.submit(tokens(20, 1), 10)
    sim.step(64)
    (entry,) = sim.schedule(64, guesses=3)
    assert (entry.count, entry.outputs, entry.drafts) == (4, 4, (7, 7, 7))
    assert len(sequence.tokens) == 21
    sim.scheduler.on_refused([entry])


def test_right_guesses_save_steps() -> None:
    sim = simulation()
    sequence = sim.submit(tokens(20, 1), 10)
    steps = 0
    while not sim.idle:
        sim.step(64, guesses=4, right=2)
        steps += 1
    assert sequence.tokens.view(20).tolist() == [1001, 7, 7, 1001, 7, 7, 1001, 7, 7]
    assert steps == 4


def test_a_token_that_must_be_computed_again_leaves_the_pool() -> None:
    sim = simulation()
    sequence = sim.submit(tokens(20, 1), 10)
    sim.step(64)
    (entry,) = sim.schedule(64, guesses=3)
    sim.scheduler.commit(entry, [7], accepted=1, recompute=True)
    assert (len(sequence.tokens), sequence.computed, sequence.pending) == (22, 21, 1)


def test_ended_with_unverified_guesses_only_the_text_is_kept() -> None:
    """As when another choice of its request fails in the step that computed them."""
    sim = simulation()
    sequence = sim.submit(tokens(20, 1), 10)
    sim.step(64)
    (entry,) = sim.schedule(64, guesses=3)
    sim._compute(entry)
    sim.cancel(sequence)
    assert sim.kv.cached == 21


def test_choices_of_one_request_share_even_a_short_prompt() -> None:
    sim = simulation()
    first = sim.submit(tokens(30, 1), 3)
    second = sim.submit(tokens(30, 1), 3)
    second.request_id = first.request_id
    sim.run()
    assert second.cached == 29


def test_a_prefix_that_left_the_pool_comes_back_from_host_ram() -> None:
    sim = simulation(cells=600, host=10_000)
    turn = sim.submit(tokens(500, 1), 5)
    sim.run()
    sim.submit(tokens(500, 2), 5)
    sim.run()
    before = sim.computed_tokens
    back = sim.submit([*turn.tokens.view().tolist(), *tokens(10, 3)], 1)
    sim.run()
    assert back.cached >= 503
    assert sim.computed_tokens - before < 20


@pytest.mark.parametrize("reuse", [Reuse.PARTIAL, Reuse.EXACT])
def test_a_prefix_that_llama_cpp_refuses_is_computed_and_disturbs_nobody(reuse: Reuse) -> None:
    sim = simulation(cells=1200, host=10_000, reuse=reuse)
    turn = sim.submit(tokens(500, 1), 5)
    sim.run()
    sim.submit(tokens(1000, 2), 5)
    sim.run()
    running = sim.submit(tokens(20, 3), 500)
    sim.step(64)
    sim.refusing = True
    again = sim.submit([*turn.tokens.view().tolist(), *tokens(10, 4)], 1)
    for _ in range(30):
        sim.step(64)
    assert again in sim.finished
    assert again.cached == 0
    assert running.preemptions == again.preemptions == 0
    assert not [stored for stored in sim.host if stored.tokens[0] == turn.tokens[0]]


def test_idle_prefixes_leave_the_pool_for_host_ram_while_others_run_and_come_back() -> None:
    sim = simulation(cells=2000, host=10_000)
    turn = sim.submit(tokens(500, 1), 5)
    sim.run()
    sim.submit(tokens(100, 2), 5)
    sim.step(64)
    sim.scheduler.offload_idle(504)
    assert sim.kv.cached == 504
    sim.step(64)
    sim.scheduler.offload_idle(100)
    sim.run()
    assert [stored.length for stored in sim.host] == [504]
    back = sim.submit([*turn.tokens.view().tolist(), *tokens(10, 3)], 1)
    sim.run()
    assert back.cached >= 503


def test_an_idle_prefix_that_host_ram_has_no_room_for_stays_in_the_pool() -> None:
    sim = simulation(cells=2000, host=600)
    for seed in (1, 2):
        sim.submit(tokens(500, seed), 5)
        sim.run()
    sim.submit(tokens(100, 3), 5)
    for _ in range(4):
        sim.step(64)
        sim.scheduler.offload_idle(0)
    assert len(list(sim.host)) == 1
    assert sim.kv.cached == 504


def test_a_prefix_that_is_computed_faster_than_it_is_moved_stays_in_host_ram() -> None:
    sim = simulation(cells=600, host=10_000)
    sim.restoring = False
    for seed in (1, 2):
        sim.submit(tokens(500, seed), 5)
        sim.run()
    again = sim.submit([*tokens(500, 1), *tokens(10, 3)], 1)
    sim.run()
    assert again.cached == 0


def test_a_memory_without_rollback_keeps_the_prompt_before_its_answer() -> None:
    sim = simulation(reuse=Reuse.EXACT)
    sim.submit(tokens(300, 1), 20)
    sim.run()
    again = sim.submit([*tokens(300, 1), *tokens(10, 2)], 1)
    sim.run()
    assert again.cached == 292


def test_host_ram_stays_within_its_budget() -> None:
    sim = simulation(cells=300, host=500)
    for seed in range(1, 6):
        sim.submit(tokens(200, seed), 2)
        sim.run()
    assert 0 < sim.host.used_bytes <= 500


# ---- batches that were not computed


@pytest.mark.parametrize("how", ["refused", "no cells", "aborted"])
@pytest.mark.parametrize("reuse", list(Reuse))
def test_a_batch_that_was_not_computed_is_scheduled_again(reuse: Reuse, how: str) -> None:
    sim = simulation(reuse=reuse)
    decoding = sim.submit(tokens(20, 1), 5)
    sim.step(64)
    prefilling = sim.submit(tokens(100, 2), 5)
    guesses = 2 if reuse is Reuse.PARTIAL else 0
    assert len(sim.fail(64, how, guesses)) == 2
    assert len(decoding.tokens) == 21
    sim.run()
    assert set(sim.finished) == {decoding, prefilling}
    assert decoding.tokens.view(20).tolist() == [1001] * 4


def test_an_aborted_batch_starts_again_where_nothing_can_be_cut() -> None:
    sim = simulation(reuse=Reuse.EXACT)
    sequence = sim.submit(tokens(20, 1), 5)
    sim.fail(64, "aborted")
    assert sequence.preemptions == 1
    assert sim.scheduler.waiting == [sequence]


def test_without_cells_cached_prefixes_go_first_then_the_youngest() -> None:
    sim = simulation()
    sim.submit(tokens(20, 1), 2)
    sim.run()
    oldest, youngest = sim.submit(tokens(20, 2), 5), sim.submit(tokens(20, 3), 5)
    sim.fail(64, "no cells")
    assert (sim.kv.cached, sim.scheduler.preemptions) == (0, 0)
    sim.fail(64, "no cells")
    assert sim.scheduler.running == [oldest]
    assert sim.scheduler.waiting == [youngest]


def test_alone_without_cells_there_is_nothing_to_be_freed() -> None:
    sim = simulation()
    sim.submit(tokens(20, 1), 5)
    assert not sim.scheduler.on_no_cells(sim.schedule(64))


class SchedulerMachine(RuleBasedStateMachine):
    """Any order of requests, cancels, steps and failures, in a pool that is too small, for each kind of memory."""

    reuse = Reuse.PARTIAL

    def __init__(self) -> None:
        super().__init__()
        self.sim = Simulation(cells=200, slots=6, parallel=4, reuse=self.reuse, host=400)

    @rule(
        shared=st.tuples(st.integers(1, 2), st.integers(0, 150)),
        own=st.tuples(st.integers(3, 9), st.integers(1, 20)),
        output=st.integers(1, 15),
        priority=st.integers(0, 1),
    )
    def submit(self, shared: tuple[int, int], own: tuple[int, int], output: int, priority: int) -> None:
        prompt = tokens(shared[1], shared[0]) + tokens(own[1], own[0])
        self.sim.submit(prompt, output, priority=priority)

    @rule(budget=st.integers(1, 40), guesses=st.integers(0, 3), right=st.integers(0, 3))
    def step(self, budget: int, guesses: int, right: int) -> None:
        entries = self.sim.step(budget, guesses if self.reuse is Reuse.PARTIAL else 0, right)
        assert entries or self.sim.idle

    @rule(
        budget=st.integers(1, 40),
        guesses=st.integers(0, 3),
        how=st.sampled_from(["refused", "no cells", "aborted"]),
    )
    def fail(self, budget: int, guesses: int, how: str) -> None:
        self.sim.fail(budget, how, guesses if self.reuse is Reuse.PARTIAL else 0)

    @rule()
    def refuse_restores(self) -> None:
        self.sim.refusing = not self.sim.refusing

    @precondition(lambda self: not self.sim.idle)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        scheduler = self.sim.scheduler
        self.sim.cancel(data.draw(st.sampled_from([*scheduler.running, *scheduler.waiting])))

    @rule()
    def drop(self) -> None:
        self.sim.kv.drop_oldest()

    @invariant()
    def whole(self) -> None:
        self.sim.kv.check_integrity()

    def teardown(self) -> None:
        self.sim.run(budget=16)
        self.sim.kv.clear()
        assert self.sim.kv.free == self.sim.kv.cells


class ExactMachine(SchedulerMachine):
    reuse = Reuse.EXACT


class NoReuseMachine(SchedulerMachine):
    reuse = Reuse.NONE


_profile = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestPartial = SchedulerMachine.TestCase
TestExact = ExactMachine.TestCase
TestNoReuse = NoReuseMachine.TestCase
for case in (TestPartial, TestExact, TestNoReuse):
    case.settings = _profile
