"""What a worker guarantees, on a scripted model: llama.cpp itself decodes, and the right text is known."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from cortex.wire.events import ChoiceFinished, Failed, Finished, Progress, Started, TextDelta, Tokens
from cortex.wire.inference import EmbeddingRequest, Grammar, Sampling
from cortex.wire.worker import (
    Canary,
    Cancel,
    Heartbeat,
    Load,
    Loaded,
    LoadFailed,
    LoadProgress,
    LoadSpec,
    Probe,
    ProbeReport,
    RestoreState,
    SaveState,
    StateRestored,
    StateSaved,
    Submit,
    Unload,
    Unloaded,
)
from tests.engine.conftest import EMOJI
from tests.engine.harness import WorkerProcess, chat, check_order, only, raw, text_of

pytestmark = pytest.mark.model
HELLO = "Hello, world 😀!"


@pytest.fixture(scope="module")
def unhurried(scripted: WorkerProcess, scripted_path: Path) -> str:
    """A slow model: its answer is still being generated when something happens to it."""
    faults = {"models": ["unhurried"], "decode_delay_s": 0.02}
    scripted.load(LoadSpec("unhurried", str(scripted_path), context=1024, prompt_lookup=False, faults=faults))
    return "unhurried"


def test_a_chat_is_answered_whole_and_in_order(scripted: WorkerProcess) -> None:
    events = scripted.run(chat("chat", "hi"))
    check_order(events)
    assert text_of(events) == HELLO
    assert only(events, ChoiceFinished).reason == "stop"


def test_an_emoji_split_over_tokens_never_shows_in_part(scripted: WorkerProcess) -> None:
    events = scripted.run(chat("emoji", "hi"))
    assert all("�" not in event.text for event in events if isinstance(event, TextDelta))
    assert sum(EMOJI.decode() in event.text for event in events if isinstance(event, TextDelta)) == 1


def test_usage_counts_what_was_computed(scripted: WorkerProcess) -> None:
    events = scripted.run(raw("usage", "say<|go|>", cache_prompt=False))
    usage = only(events, Finished).usage
    assert usage.prompt_tokens == only(events, Started).prompt_tokens
    assert usage.completion_tokens == 10  # five words, four bytes and the end token
    assert usage.cached_tokens == 0


def test_length_limits_end_an_answer(scripted: WorkerProcess) -> None:
    events = scripted.run(raw("limit", "say<|loop|>", max_output=4))
    assert text_of(events) == "tick tock tick tock "
    assert only(events, ChoiceFinished).reason == "length"


@pytest.mark.parametrize("scored", [False, True])
def test_a_limit_of_none_evaluates_the_prompt_alone(scripted: WorkerProcess, scored: bool) -> None:
    """OpenAI's way to score a text: echo, log-probabilities, `max_tokens: 0`."""
    more = {"echo": True, "logprobs": 1} if scored else {}
    events = scripted.run(raw(f"nothing {scored}", "say<|go|>", max_output=0, **more))
    check_order(events)
    assert text_of(events) == ("say<|go|>" if scored else "")
    assert only(events, ChoiceFinished).reason == "length"
    assert only(events, Finished).usage.completion_tokens == 0
    assert sum(len(event.logprobs) for event in events if isinstance(event, TextDelta)) == (4 if scored else 0)


def test_without_a_limit_the_rest_of_the_context_is_used(scripted: WorkerProcess) -> None:
    events = scripted.run(raw("rest", "say<|loop|>"))
    finished = only(events, Finished)
    assert finished.usage.prompt_tokens + finished.usage.completion_tokens == 1024


@pytest.mark.parametrize(("stop", "text"), [("END", "Wait"), ("tEN", "Wai"), ("never", "WaitEND")])
def test_a_stop_string_ends_the_answer_without_leaking(scripted: WorkerProcess, stop: str, text: str) -> None:
    events = scripted.run(raw(f"stop {stop}", "say<|end|>", stop=["nothing", stop]))
    assert text_of(events) == text
    assert only(events, ChoiceFinished).stop_sequence == stop
    assert only(events, ChoiceFinished).reason == "stop_sequence"


def test_every_choice_gets_its_own_end(scripted: WorkerProcess) -> None:
    events = scripted.run(raw("n", "say<|go|>", n=3))
    assert [text_of(events, choice) for choice in range(3)] == [HELLO] * 3
    assert sorted(e.choice for e in events if isinstance(e, ChoiceFinished)) == [0, 1, 2]
    check_order(events)


def test_echo_comes_before_the_answer(scripted: WorkerProcess) -> None:
    assert text_of(scripted.run(raw("echo", "say<|go|>", echo=True))) == "say<|go|>" + HELLO


def test_logprobs_are_those_of_the_chosen_tokens(scripted: WorkerProcess) -> None:
    events = scripted.run(raw("logprobs", "say<|go|>", logprobs=2))
    entries = [entry for event in events if isinstance(event, TextDelta) for entry in event.logprobs]
    assert b"".join(entry.bytes for entry in entries) == HELLO.encode()
    assert all(entry.logprob <= 0 and len(entry.top) == 2 for entry in entries)
    assert all(entry.top[0].token_id == entry.token_id for entry in entries)


@pytest.mark.parametrize("repeats", [1, 40])
def test_an_echoed_prompt_has_its_log_probabilities(scripted: WorkerProcess, repeats: int) -> None:
    """The first token's is unknown; the BOS that cortex adds is not echoed. Also over several prefill chunks."""
    prompt = "tick tock " * repeats + "<|go|>"
    events = scripted.run(raw(f"echo logprobs {repeats}", prompt, echo=True, logprobs=2, n=2))
    check_order(events)
    for choice in range(2):
        deltas = [event for event in events if isinstance(event, TextDelta) and event.choice == choice]
        assert "".join(delta.text for delta in deltas) == prompt + HELLO
        entries = [entry for delta in deltas for entry in delta.logprobs]
        assert b"".join(entry.bytes for entry in entries) == (prompt + HELLO).encode()
        first, second, *others = entries
        assert (first.logprob, first.top) == (None, [])
        assert second.logprob == pytest.approx(0, abs=0.01)  # a tick is followed by a tock
        assert all(entry.logprob is not None and entry.logprob <= 0 and len(entry.top) == 2 for entry in others)


def test_an_echo_with_log_probabilities_of_one_token(scripted: WorkerProcess) -> None:
    events = scripted.run(raw("echo one", [5], echo=True, logprobs=0, max_output=1))
    echo = next(event for event in events if isinstance(event, TextDelta))
    assert [(entry.token_id, entry.logprob) for entry in echo.logprobs] == [(5, None)]


def test_counting_only_says_the_number_and_ends(scripted: WorkerProcess) -> None:
    counted = scripted.run(chat("count", "how many", count_only=True))
    answered = scripted.run(chat("counted", "how many"))
    assert [type(event) for event in counted] == [Started, Finished]
    assert only(counted, Started).prompt_tokens == only(answered, Started).prompt_tokens


def test_reported_tokens_can_be_replayed_elsewhere(scripted: WorkerProcess) -> None:
    whole = scripted.run(raw("whole", "say<|go|>", report_tokens=True))
    ids = [token for event in whole if isinstance(event, Tokens) for token in event.ids]
    resumed = scripted.run(raw("resumed", "say<|go|>", replay=ids[:5]))
    assert text_of(resumed) == "😀!"
    assert only(resumed, Finished).usage.completion_tokens == only(whole, Finished).usage.completion_tokens


def test_ignore_eos_goes_past_the_end(scripted: WorkerProcess) -> None:
    events = scripted.run(raw("eos", "say<|go|>", max_output=12, sampling=Sampling(temperature=0, ignore_eos=True)))
    assert only(events, Finished).usage.completion_tokens == 12


def test_a_grammar_holds_the_output(scripted: WorkerProcess) -> None:
    events = scripted.run(raw("grammar", "say<|go|>", format=Grammar("regex", "(tick|tock) ")))
    assert text_of(events) in {"tick ", "tock "}
    assert only(events, ChoiceFinished).reason == "stop"


def test_a_prompt_one_token_too_long_is_refused_with_both_numbers(scripted: WorkerProcess) -> None:
    ids = [5] * 1025
    refused = only(scripted.run(raw("long", ids)), Failed)
    assert refused.code == "context_length_exceeded"
    assert "1025" in refused.message
    assert "1024" in refused.message
    assert isinstance(scripted.run(raw("fits", ids[:1024]))[-1], Finished)


def test_progress_is_told_when_asked_for(scripted: WorkerProcess) -> None:
    events = scripted.run(raw("progress", list(range(5, 255)) * 4, report_progress=True, max_output=1))
    done = [event.done for event in events if isinstance(event, Progress)]
    assert done == sorted(done)
    assert done


def test_a_deadline_ends_a_request_with_a_timeout(scripted: WorkerProcess) -> None:
    assert only(scripted.run(raw("late", "say<|loop|>", deadline_s=0.0)), Failed).code == "timeout"


def test_a_cancel_frees_the_sequence_within_a_step(scripted: WorkerProcess, unhurried: str) -> None:
    scripted.submit(raw("doomed", "say<|loop|>", model=unhurried))
    scripted.until(lambda: len(scripted.events.get("doomed", [])) > 3)
    scripted.send(Cancel("doomed"))
    scripted.notices.clear()
    scripted.until(
        lambda: any(isinstance(n, Heartbeat) and not any(stats.running for stats in n.models) for n in scripted.notices)
    )
    assert not scripted.ended("doomed")


def test_a_canary_is_a_real_decode(scripted: WorkerProcess) -> None:
    scripted.send(Canary("m"))
    scripted.until(
        lambda: any(isinstance(n, Heartbeat) and n.models and n.models[0].canaries for n in scripted.notices)
    )


def test_the_probe_report_is_for_the_asking(scripted: WorkerProcess) -> None:
    scripted.send(Probe("m"))
    assert scripted.wait(ProbeReport).model == "m"


def test_an_unknown_model_and_a_wrong_kind_of_request_are_refused(scripted: WorkerProcess) -> None:
    assert only(scripted.run(raw("who", "x", model="nobody")), Failed).code == "model_not_found"
    assert only(scripted.run(EmbeddingRequest("vec", "m", ["x"])), Failed).code == "unsupported_value"


def test_a_token_outside_the_vocabulary_is_refused(scripted: WorkerProcess) -> None:
    assert only(scripted.run(raw("alien", [10**6])), Failed).code == "invalid_request"


def test_a_bad_file_fails_with_llama_cpps_reason_and_the_worker_lives(scripted: WorkerProcess, tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"this is no GGUF at all")
    scripted.send(Load(LoadSpec("bad", str(bad), context=64)))
    failure = scripted.wait(LoadFailed)
    assert failure.code == "model_load_failed"
    assert "magic" in failure.message
    assert text_of(scripted.run(chat("after bad", "hi"))) == HELLO


def test_a_truncated_file_fails_to_load(scripted: WorkerProcess, scripted_path: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(scripted_path.read_bytes()[:-5000])
    scripted.send(Load(LoadSpec("cut", str(cut), context=64)))
    assert scripted.wait(LoadFailed).model == "cut"


def test_loading_goes_on_beside_decoding(scripted: WorkerProcess, scripted_path: Path) -> None:
    """A slow load (delayed by a fault switch) delays no stream, and two models answer alternately."""
    scripted.submit(raw("running", "say<|loop|>"))
    faults = {"models": ["second"], "load_delay_s": 0.3, "decode_delay_s": 0.05}
    options = {"context": 256, "parallel": 2, "prompt_lookup": False, "faults": faults}
    scripted.send(Load(LoadSpec("second", str(scripted_path), **options)))
    scripted.until(lambda: any(isinstance(n, Loaded) and n.model == "second" for n in scripted.notices))
    assert len(scripted.events["running"]) > 20
    assert text_of(scripted.run(chat("other", "hi", model="second"))) == HELLO
    scripted.send(Cancel("running"))
    scripted.submit(raw("orphan", "say<|loop|>", model="second", max_output=200))
    scripted.until(lambda: "orphan" in scripted.events)
    scripted.send(Unload("second"))
    scripted.finish("orphan")
    assert only(scripted.events["orphan"], Failed).code == "draining"
    assert scripted.wait(Unloaded).model == "second"


def test_a_short_pool_pauses_the_youngest_and_loses_nothing(scripted_path: Path) -> None:
    with WorkerProcess("--cpu-threads", "1") as worker:
        worker.load(LoadSpec("m", str(scripted_path), context=250, parallel=4, kv_cells=256))
        names = [f"p{i}" for i in range(4)]
        worker.send(*(Submit(raw(name, f"{name} say<|loop|>", max_output=120)) for name in names))
        worker.finish(*names)
        for name in names:
            assert text_of(worker.events[name]) == "tick tock " * 60
        worker.notices.clear()
        assert worker.wait(Heartbeat).models[0].preemptions > 0


def test_the_end_of_the_socket_ends_the_worker(scripted_path: Path) -> None:
    with WorkerProcess("--cpu-threads", "1") as worker:
        worker.parent.close()
        assert worker.process.wait(60) == 0


def test_a_fatal_decode_error_ends_the_worker_with_a_clear_last_line(scripted_path: Path) -> None:
    with WorkerProcess("--cpu-threads", "1") as worker:
        worker.load(LoadSpec("m", str(scripted_path), context=256, faults={"decode_fatal_after": 3}))
        worker.send(Submit(raw("fatal", "say<|loop|>")))
        assert worker.process.wait(60) == 3
        assert worker.stderr().splitlines()[-1].startswith("fatal: llama_decode returned")


def test_a_gguf_without_template_still_serves_prompts(tmp_path: Path) -> None:
    from tests.scripted import build_scripted

    path = build_scripted(tmp_path / "plain.gguf", {"<|go|>": ["plain"]})
    with WorkerProcess("--cpu-threads", "1") as worker:
        loaded = worker.load(LoadSpec("m", str(path), context=256))
        assert msgspec.structs.asdict(loaded)["context"] == 256
        assert text_of(worker.run(raw("plain", "x<|go|>"))) == "plain"
        assert any(isinstance(n, LoadProgress) for n in worker.notices)


def test_saved_prefixes_serve_a_worker_that_starts_later(scripted_path: Path, tmp_path: Path) -> None:
    """What was computed before an eviction is not computed again after the reload."""
    spec = LoadSpec("m", str(scripted_path), context=512, parallel=2, host_cache_bytes=1 << 26)
    prompt = list(range(20, 250)) + list(range(30, 100))
    with WorkerProcess("--cpu-threads", "1") as worker:
        worker.load(spec)
        first = text_of(worker.run(raw("first", prompt, max_output=5)))
        worker.send(SaveState("m", str(tmp_path / "kv")))
        saved = worker.wait(StateSaved)
        assert saved.prefixes >= 1
        assert saved.bytes > 0
    with WorkerProcess("--cpu-threads", "1") as worker:
        worker.load(spec)
        worker.send(RestoreState("m", str(tmp_path / "kv")))
        assert worker.wait(StateRestored).prefixes == saved.prefixes
        events = worker.run(raw("again", prompt, max_output=5))
        assert text_of(events) == first
        assert only(events, Finished).usage.cached_tokens == 299


def test_a_disk_that_takes_no_prefixes_costs_only_these(scripted: WorkerProcess, tmp_path: Path) -> None:
    """A disk that is full or missing: the worker has other models, and this one is about to be unloaded."""
    (tmp_path / "full").touch()
    scripted.send(SaveState("m", str(tmp_path / "full" / "kv")))
    assert scripted.wait(StateSaved).prefixes == 0
    assert text_of(scripted.run(chat("after the disk", "hi"))) == HELLO


def test_a_grammar_that_biases_leave_nothing_of_ends_the_answer(scripted: WorkerProcess) -> None:
    """Only the end token is allowed after the text, and ignore_eos forbids it: the answer ends without an error."""
    sampling = Sampling(temperature=0, ignore_eos=True)
    request = raw("stuck", "say<|go|>", format=Grammar("regex", "tick ( )*"), sampling=sampling, max_output=20)
    events = scripted.run(request)
    assert text_of(events).strip() == "tick"
    assert isinstance(events[-1], Finished)
