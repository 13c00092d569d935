"""What a step's entries become in llama_batch."""

from __future__ import annotations

from cortex.engine.kv.slot import Slot
from cortex.engine.kv.tokens import TokenBuffer
from cortex.engine.llama.batch import Batch
from cortex.engine.scheduling.sequence import Entry, Sequence


def sequence(slot: int, *tokens: int) -> Sequence:
    buffer = TokenBuffer(list(tokens))
    return Sequence("r", 0, buffer, len(tokens), 0, slot=Slot(slot, buffer, None))


def filled(*entries: Entry[Sequence]) -> tuple[list[int], list[tuple[int, int, int, int]]]:
    """First wanted rows, and (token, position, sequence id, wanted) of each row."""
    batch = Batch(64)
    rows = batch.fill(entries)
    struct = batch.struct
    table = [(struct.token[i], struct.pos[i], struct.seq_id[i][0], struct.logits[i]) for i in range(struct.n_tokens)]
    return rows, table


def test_a_chunk_without_outputs_wants_no_row() -> None:
    assert filled(Entry(sequence(3, 5, 6, 7), 1, 2, 0)) == ([-1], [(6, 1, 3, 0), (7, 2, 3, 0)])


def test_a_prompts_end_and_a_decode_want_their_last_row() -> None:
    prompt, decode = Entry(sequence(0, 5, 6), 0, 2, 1), Entry(sequence(1, 8, 9), 1, 1, 1)
    assert filled(prompt, decode) == ([1, 2], [(5, 0, 0, 0), (6, 1, 0, 1), (9, 1, 1, 1)])


def test_guesses_follow_the_sequences_own_token_and_want_all_rows() -> None:
    guessing = sequence(2, 5, 6)
    rows, table = filled(Entry(guessing, 1, 3, 3, drafts=(40, 41)))
    assert (rows, table) == ([0], [(6, 1, 2, 1), (40, 2, 2, 1), (41, 3, 2, 1)])
    assert guessing.tokens.view().tolist() == [5, 6]


def test_a_scored_prompt_wants_every_row() -> None:
    assert filled(Entry(sequence(0, 5, 6), 0, 2, 0, scored=True)) == ([0], [(5, 0, 0, 1), (6, 1, 0, 1)])


def test_a_batch_that_is_filled_again_forgets_the_last_one() -> None:
    batch = Batch(8)
    batch.fill([Entry(sequence(0, 1, 2, 3), 0, 3, 3)])
    batch.fill([Entry(sequence(0, 4, 5), 0, 2, 1)])
    assert batch.struct.n_tokens == 2
    assert [batch.struct.logits[i] for i in range(2)] == [0, 1]
