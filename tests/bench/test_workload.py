"""The prompts of a workload."""

from __future__ import annotations

from cortex.bench.workload import Workload, arrival_requests, decode_requests, shared_prefix_requests, words


def test_prompts_are_the_same_for_one_seed_and_share_no_prefix_otherwise() -> None:
    assert words(8, 1) == words(8, 1)
    assert words(8, 1).split()[:3] != words(8, 2).split()[:3]
    load = Workload(requests=4, prompt_words=30)
    assert decode_requests(load) == decode_requests(load)
    assert len({request.messages[0]["content"] for request in arrival_requests(load)}) == 4


def test_shared_prefixes_differ_only_at_the_end() -> None:
    first, second = (
        request.messages[0]["content"] for request in shared_prefix_requests(Workload(requests=2, prompt_words=50))
    )
    assert first.split("\n")[0] == second.split("\n")[0]
    assert first != second
