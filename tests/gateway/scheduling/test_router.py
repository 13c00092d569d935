"""Which copy serves: prefix against queue against habit."""

from __future__ import annotations

from cortex.gateway.scheduling.prefix_index import CopyKey, PrefixIndex
from cortex.gateway.scheduling.router import Affinity, Copy, affinity_key, choose_copy
from cortex.wire.inference import EmbeddingRequest, InferenceRequest, Message, Text
from cortex.wire.status import Limits, ModelCard, ModelStatus
from tests.fake_neuron import chat


def test_a_cached_prefix_outweighs_a_short_queue() -> None:
    here = Copy("here", running=2, parallel=4, missing_blocks=0)
    empty = Copy("empty", missing_blocks=40)
    assert choose_copy([here, empty], None, 1.0).neuron == "here"


def test_a_long_queue_outweighs_a_short_prefix() -> None:
    here = Copy("here", running=12, parallel=4, missing_blocks=0)
    empty = Copy("empty", missing_blocks=1)
    assert choose_copy([here, empty], None, 5.0).neuron == "empty"


def test_a_fast_prefill_makes_a_lost_prefix_cheap() -> None:
    slow = Copy("slow", running=1, missing_blocks=0, parallel=4)
    fast = Copy("fast", missing_blocks=4, prefill_tps=50_000)
    assert choose_copy([slow, fast], None, 1.0).neuron == "fast"


def test_habit_decides_between_equals_only() -> None:
    copies = [Copy("m"), Copy("n")]
    assert choose_copy(copies, "n", 1.0).neuron == "n"
    assert choose_copy([Copy("m"), Copy("n", running=1)], "n", 10.0).neuron == "m"


def test_without_statistics_the_least_recently_used_is_next() -> None:
    assert choose_copy([Copy("m", used_at=5.0), Copy("n", used_at=1.0)], None, 1.0).neuron == "n"


def test_a_conversation_is_known_by_how_it_begins_or_by_the_clients_key() -> None:
    first = chat(text="hello")
    later = InferenceRequest(
        id="2", model="a", messages=[*first.messages, Message("assistant", [Text("hi")]), Message("user", [Text("?")])]
    )
    assert affinity_key(first) == affinity_key(later) != affinity_key(chat(text="other"))
    assert affinity_key(InferenceRequest(id="3", model="a", prompt="x", cache_key="mine")) == "mine"
    assert affinity_key(EmbeddingRequest("4", "a", ["x"])) is None


def test_habits_are_forgotten_by_model_and_key() -> None:
    affinity = Affinity()
    affinity.set("a", "k", "n")
    affinity.set("a", None, "m")
    assert affinity.get("a", "k") == "n"
    assert affinity.get("b", "k") is None
    assert affinity.get("a", None) is None


def status(*hashes: int) -> ModelStatus:
    return ModelStatus(ModelCard("a", Limits(1)), prefix_hashes=list(hashes))


def test_overlap_counts_leading_blocks_only() -> None:
    known, copy = PrefixIndex(), CopyKey("n", "boot", "a")
    known.publish(copy, status(1, 2, 4))
    assert known.overlap(copy, [1, 2, 3, 4], 0.0) == 2
    assert known.overlap(copy, [9, 2], 0.0) == 0
    assert known.overlap(copy, [], 0.0) == 0


def test_what_was_just_sent_is_believed_for_a_moment() -> None:
    known, copy = PrefixIndex(), CopyKey("n", "boot", "a")
    known.sent(copy, [1, 2], 100.0)
    assert known.overlap(copy, [1, 2, 3], 101.0) == 2
    assert known.overlap(copy, [1, 2, 3], 106.0) == 0


def test_a_neurons_own_word_replaces_what_it_said_before() -> None:
    known, copy = PrefixIndex(), CopyKey("n", "boot", "a")
    known.publish(copy, status(1, 2))
    known.publish(copy, status())
    assert known.overlap(copy, [1, 2], 0.0) == 0


def test_another_boot_or_load_holds_nothing() -> None:
    known = PrefixIndex()
    known.publish(CopyKey("n", "boot", "a", 1.0), status(1))
    assert known.overlap(CopyKey("n", "later", "a", 1.0), [1], 0.0) == 0
    assert known.overlap(CopyKey("n", "boot", "a", 2.0), [1], 0.0) == 0
    known.keep_only(set())
    assert known.overlap(CopyKey("n", "boot", "a", 1.0), [1], 0.0) == 0
