"""Images through a real worker: a scripted model's answer depends on the picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cortex.wire.events import ChoiceFinished, Event, Failed, Finished, Progress, Started, TextDelta
from cortex.wire.inference import Image, InferenceRequest, Message, Text
from cortex.wire.worker import (
    Cancel,
    Heartbeat,
    Load,
    LoadFailed,
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
from tests.engine.harness import GREEDY, WorkerProcess, chat, check_order, only, text_of
from tests.engine.recurrent import build_mamba
from tests.pictures import BLUE, RED, Kind, build_projector, build_random, build_seeing, png

pytestmark = pytest.mark.model

SAID = {RED: "Red it is.", BLUE: "Blue it is, I'd say."}
SLOW = {"side": 192, "merge": 48, "layers": 40}
"""Two thousand patches that attend to each other forty times: about half a second of encoding."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("seeing")
    text, projector = build_seeing(directory)
    blank = np.ones(128, np.float32)
    slow = build_projector(directory / "mmproj-slow.gguf", blank, -blank, "gemma3", **SLOW)
    return {"text": text, "projector": projector, "slow": slow}


@pytest.fixture(scope="module")
def seeing(models: dict[str, Path]) -> Iterator[WorkerProcess]:
    """A worker with "m", which takes images; "blind", which doesn't; and "slow", whose encoder is slow."""
    with WorkerProcess("--cpu-threads", "1") as worker:
        worker.load(spec(models, "m"))
        worker.load(LoadSpec("blind", str(models["text"]), context=512))
        worker.load(spec(models, "slow", models["slow"], prompt_lookup=False))
        yield worker


def spec(models: dict[str, Path], name: str, projector: Path | None = None, **fields: object) -> LoadSpec:
    settings = {"context": 512, "parallel": 4, "kv_cells": 1024, **fields}
    path = str(projector or models["projector"])
    return LoadSpec(name, str(models["text"]), mmproj=path, **settings)  # type: ignore[arg-type]


def shown(name: str, *parts: str | bytes, **fields: object) -> InferenceRequest:
    content = [Text(part) if isinstance(part, str) else Image(part) for part in parts]
    settings = {"model": "m", "sampling": GREEDY, "max_output": 20, **fields}
    return InferenceRequest(id=name, messages=[Message("user", content)], **settings)  # type: ignore[arg-type]


# ---- what the model says


@pytest.mark.parametrize("colour", [RED, BLUE])
def test_the_answer_depends_on_the_picture(seeing: WorkerProcess, colour: tuple[int, int, int]) -> None:
    events = seeing.run(shown(f"sees-{colour}", "what is it?", png(colour)))
    check_order(events)
    assert text_of(events) == SAID[colour]


def test_the_last_of_several_pictures_is_told_from_the_others(seeing: WorkerProcess) -> None:
    events = seeing.run(shown("several", png(RED), "and", png(BLUE), png(RED, 20, 30), "and", png(BLUE)))
    assert text_of(events) == SAID[BLUE]


def test_every_choice_sees_the_picture(seeing: WorkerProcess) -> None:
    for cache in (True, False):
        events = seeing.run(shown(f"choices-{cache}", "choose", png(BLUE), n=2, cache_prompt=cache))
        assert [text_of(events, choice) for choice in range(2)] == [SAID[BLUE]] * 2


# ---- prefixes


def test_the_same_picture_is_not_computed_again_and_gives_the_same_answer(seeing: WorkerProcess) -> None:
    question = "the very same question about a picture"
    cold = seeing.run(shown("cold", question, png(RED)))
    warm = seeing.run(shown("warm", question, png(RED)))
    assert only(cold, Started).cached_tokens < only(cold, Started).prompt_tokens - 6
    assert only(warm, Started).cached_tokens == only(warm, Started).prompt_tokens - 1
    assert text_of(cold) == text_of(warm) == SAID[RED]


def test_another_picture_shares_no_more_than_the_text_before_it(seeing: WorkerProcess) -> None:
    question = "another question about a picture"
    seeing.run(shown("one", question, png(RED)))
    other = seeing.run(shown("other", question, png(BLUE)))
    started = only(other, Started)
    assert started.cached_tokens == started.prompt_tokens - 6  # four of the picture, the line's end and the mark
    assert text_of(other) == SAID[BLUE]


@pytest.mark.parametrize("kind", ["gemma3", "qwen2vl"])
def test_what_is_shared_is_what_would_be_computed(tmp_path: Path, kind: Kind) -> None:
    """Also where an image is attended to in both directions, and where rows and columns are counted separately."""
    text = build_random(tmp_path / "text.gguf", "qwen2vl" if kind == "qwen2vl" else "llama")
    noise = np.random.default_rng(3).standard_normal((2, 64), dtype=np.float32)
    eye = build_projector(tmp_path / "mmproj.gguf", *noise, kind)
    with WorkerProcess("--cpu-threads", "1") as worker:
        worker.load(LoadSpec("m", str(text), mmproj=str(eye), context=512, parallel=4))
        parts = ("first", png(RED, 40, 30), "second", png(BLUE), "and?")
        cold = worker.run(shown("cold", *parts, logprobs=3, max_output=12))
        warm = worker.run(shown("warm", *parts, logprobs=3, max_output=12))
        longer = worker.run(shown("longer", *parts, png(RED), "more", cache_prompt=True))
        alone = worker.run(shown("alone", *parts, png(RED), "more", cache_prompt=False))
    assert only(warm, Started).cached_tokens == only(warm, Started).prompt_tokens - 1
    assert text_of(warm) == text_of(cold)
    assert len(scores(cold)) > 3
    np.testing.assert_allclose(scores(warm), scores(cold), atol=1e-2)
    assert 0 == only(alone, Started).cached_tokens < only(longer, Started).cached_tokens
    assert text_of(longer) == text_of(alone)


def test_a_memory_that_cannot_be_rolled_back_takes_pictures_too(tmp_path: Path) -> None:
    """Kept prompts and prompts sent together, with a picture just where a prefix would be cut."""
    text = build_mamba(tmp_path / "mamba.gguf")
    eye = build_projector(
        tmp_path / "mmproj.gguf", *np.random.default_rng(3).standard_normal((2, 64), dtype=np.float32)
    )
    long = "All of these begin with the same long sentence, which is worth computing once. " * 3
    endings: list[tuple[str | bytes, ...]] = [(png(RED), "?"), (png(RED), "!"), (png(BLUE), "?"), ("none",)]
    with WorkerProcess("--cpu-threads", "1") as worker:
        worker.load(LoadSpec("m", str(text), mmproj=str(eye), context=1024, parallel=4))
        shared = [worker.submit(shown(f"w{i}", long, *ending)) for i, ending in enumerate(endings)]
        worker.finish(*shared)
        again = [worker.run(shown(f"a{i}", long, *ending)) for i, ending in enumerate(endings)]
        cold = [worker.run(shown(f"c{i}", long, *ending, cache_prompt=False)) for i, ending in enumerate(endings)]
    assert [text_of(worker.events[name]) for name in shared] == [text_of(events) for events in cold]
    assert [text_of(events) for events in again] == [text_of(events) for events in cold]
    assert sum(only(events, Started).cached_tokens > 200 for events in again) >= 3


def scores(events: list[Event]) -> list[float]:
    return [one.logprob for event in events if isinstance(event, TextDelta) for one in event.logprobs]


def test_prefixes_with_pictures_survive_on_disk(models: dict[str, Path], tmp_path: Path) -> None:
    """Saved, unloaded, loaded again: the picture isn't encoded again, and another one doesn't match it."""
    long = "a question that is long enough to be kept, since short ones are computed faster than they are moved"
    with WorkerProcess("--cpu-threads", "1") as worker:
        worker.load(spec(models, "m", host_cache_bytes=10_000_000))
        worker.run(shown("before", long, png(RED)))
        worker.send(SaveState("m", str(tmp_path)))
        assert worker.wait(StateSaved).prefixes == 1
        worker.send(Unload("m"))
        worker.wait(Unloaded)
        worker.notices.clear()
        worker.load(spec(models, "m", host_cache_bytes=10_000_000))
        worker.send(RestoreState("m", str(tmp_path)))
        assert worker.wait(StateRestored).prefixes == 1
        started = only(again := worker.run(shown("after", long, png(RED))), Started)
        assert started.cached_tokens == started.prompt_tokens - 1
        assert text_of(again) == SAID[RED]
        assert text_of(worker.run(shown("other", long, png(BLUE)))) == SAID[BLUE]


def test_pictures_are_seen_again_after_a_preemption(models: dict[str, Path]) -> None:
    """A pool that can't hold both conversations: one is preempted, computed again, and has the same answer."""
    with WorkerProcess("--cpu-threads", "1") as worker:
        worker.load(spec(models, "m", kv_cells=256, context=256))
        names = [f"r{number}" for number in range(3)]
        worker.send(*(Submit(shown(name, "tick", png(RED), f" {name}", max_output=150)) for name in names))
        worker.finish(*names)
        for name in names:
            assert only(worker.events[name], ChoiceFinished).reason == "length"
            assert text_of(worker.events[name]) == "tick tock " * 75
        worker.until(
            lambda: any(
                stats.preemptions for beat in worker.notices if isinstance(beat, Heartbeat) for stats in beat.models
            )
        )
        seen = worker.run(shown("after", "and now?", png(BLUE)))
        assert text_of(seen) == SAID[BLUE]


# ---- counting and refusing


def test_counting_gives_the_number_that_the_request_has(seeing: WorkerProcess) -> None:
    parts = ("count me", png(RED), "and", png(BLUE, 100, 50))
    counted = seeing.run(shown("counted", *parts, count_only=True))
    real = seeing.run(shown("real", *parts))
    assert only(counted, Finished).usage.prompt_tokens == only(real, Finished).usage.prompt_tokens
    assert only(counted, Started).prompt_tokens == only(real, Started).prompt_tokens


def test_pictures_count_towards_the_context(seeing: WorkerProcess) -> None:
    pictures = [png((number, 0, 0), 2, 2) for number in range(90)]
    refused = only(seeing.run(shown("many", *pictures, "x" * 160)), Failed)
    assert refused.code == "context_length_exceeded"
    assert text_of(seeing.run(shown("some", *pictures[:60], png(RED)))) == SAID[RED]


@pytest.mark.parametrize("data", [b"no picture", png(RED)[:50], b"RIFF\0\0\0\0WEBP"])
def test_a_picture_that_cannot_be_read_is_the_callers_mistake(seeing: WorkerProcess, data: bytes) -> None:
    for count_only in (False, True):
        name = f"bad-{data[:9]!r}-{count_only}"
        failed = only(seeing.run(shown(name, "look", data, count_only=count_only)), Failed)
        assert failed.code in {"invalid_request", "unsupported_value"}


def test_a_model_without_a_projector_says_so(seeing: WorkerProcess) -> None:
    failed = only(seeing.run(shown("blind-1", "look", png(RED), model="blind")), Failed)
    assert failed.code == "invalid_request"
    assert "takes no images" in failed.message


# ---- others go on


def test_streams_go_on_while_a_picture_is_encoded(seeing: WorkerProcess) -> None:
    stream = seeing.submit(chat("stream", "tick", model="slow", max_output=100_000))
    seeing.until(lambda: len(seeing.events.get("stream", [])) > 20)
    before = len(seeing.events["stream"])
    looking = seeing.submit(shown("looking", "look", png(RED), model="slow", max_output=3, report_progress=True))
    seeing.until(lambda: any(isinstance(event, TextDelta) for event in seeing.events.get(looking, [])))
    # beside the encoding there are half a dozen steps: the text before, the image, the text behind
    assert len(seeing.events["stream"]) - before > 30
    seeing.send(Cancel(stream))
    seeing.finish(looking)
    assert any(isinstance(event, Progress) for event in seeing.events[looking])


def test_a_request_is_gone_at_once_when_cancelled_while_its_picture_is_encoded(seeing: WorkerProcess) -> None:
    seeing.submit(shown("dropped", "look", png(BLUE), model="slow", max_output=5))
    seeing.until(lambda: "dropped" in seeing.events)  # admitted: its text is computed, its picture is being encoded
    seeing.send(Cancel("dropped"))
    seeing.run(chat("next", "tick", model="slow", max_output=5))
    assert not any(isinstance(event, TextDelta) for event in seeing.events["dropped"])
    assert text_of(seeing.run(shown("then", "and", png(RED)))) == SAID[RED]


def test_a_model_is_unloaded_while_it_encodes_a_picture(models: dict[str, Path]) -> None:
    with WorkerProcess("--cpu-threads", "1") as worker:
        worker.load(spec(models, "slow", models["slow"]))
        worker.load(spec(models, "m"))
        worker.submit(shown("cut", "look", png(BLUE), model="slow", max_output=5))
        worker.until(lambda: "cut" in worker.events)
        worker.send(Unload("slow"))
        worker.finish("cut")
        assert only(worker.events["cut"], Failed).code == "draining"
        worker.wait(Unloaded)
        assert text_of(worker.run(shown("still", "look", png(RED)))) == SAID[RED]


# ---- loading


def test_what_was_loaded_is_told(models: dict[str, Path]) -> None:
    with WorkerProcess("--cpu-threads", "1") as worker:
        blind = worker.load(LoadSpec("blind", str(models["text"]), context=512, parallel=4, kv_cells=1024))
        sees = worker.load(spec(models, "m"))
        assert (blind.vision, sees.vision) == (False, True)
        assert sees.bytes_by_device["CPU"] - blind.bytes_by_device["CPU"] >= models["projector"].stat().st_size
        worker.send(Probe("m"))
        assert any("an image of 512x512 takes 4 tokens" in line for line in worker.wait(ProbeReport).evidence)


def test_a_projector_that_does_not_fit_fails_the_load_and_nothing_else(models: dict[str, Path], tmp_path: Path) -> None:
    wrong = build_projector(tmp_path / "mmproj-wrong.gguf", np.zeros(96, np.float32), np.zeros(96, np.float32))
    with WorkerProcess("--cpu-threads", "1") as worker:
        worker.send(Load(spec(models, "m", wrong)))
        failed = worker.wait(LoadFailed)
        assert failed.code == "model_load_failed"
        assert "mmproj-wrong.gguf" in failed.message
        assert "n_embd" in failed.message
        worker.load(spec(models, "m"))
        assert text_of(worker.run(shown("well", "look", png(RED)))) == SAID[RED]
