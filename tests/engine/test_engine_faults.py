"""A request that raises anything anywhere in the engine ends alone: its cells are freed, others aren't touched."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from cortex.engine.fault_injection import STAGES
from cortex.engine.kv.pool import KvPool
from cortex.engine.llama import library
from cortex.engine.loading import LoadedModel, load
from cortex.engine.sampling import sampler
from cortex.engine.scheduling.scheduler import Scheduler
from cortex.errors import InternalError
from cortex.wire.events import Event, Failed, Finished
from cortex.wire.inference import Grammar, InferenceRequest, Message, Text, Tool, ToolCall, ToolChoice, ToolResult
from cortex.wire.worker import Heartbeat, LoadSpec, Submit
from tests.engine.harness import GREEDY, WorkerProcess, only, raw, text_of
from tests.scripted import LOOP, build_scripted
from tests.templates import template

pytestmark = pytest.mark.model

HELLO = "Hello, world 😀!"
TICKS = Grammar("regex", "(tick |tock ){2,9}")
NEEDED: dict[str, dict[str, Any]] = {
    "replay": {"replay": [5], "n": 1},
    "score": {"echo": True, "logprobs": 1},
    "mask": {"format": TICKS},
}
"""What a request must ask for so that it comes to a stage."""
LATER = ["schedule", "guess", "sample", "detokenise", "commit", "emit"]
"""Stages that a request passes once per token or chunk: they fail in the middle of an answer, too."""


@pytest.fixture(scope="module")
def faulty(scripted_path: Path) -> Iterator[WorkerProcess]:
    """A worker with a model for each stage, in which that stage fails for a request called after it."""
    with WorkerProcess("--cpu-threads", "1") as worker:
        for stage, after in [*((stage, 0) for stage in STAGES), *((stage, 1) for stage in LATER)]:
            name = f"{stage}-{after}"
            faults = {
                "models": [name],
                "request_fails": f"doomed {name}",
                "request_fails_in": stage,
                "request_fails_after": after,
                "check_books": True,
            }
            spec = LoadSpec(name, str(scripted_path), context=256, parallel=8, kv_cells=1024, ubatch=64, faults=faults)
            worker.load(spec)
        worker.load(LoadSpec("other", str(scripted_path), context=1024))
        yield worker


@pytest.mark.parametrize(
    "name", [*(f"{stage}-0" for stage in STAGES), *(f"{stage}-1" for stage in LATER)], ids=lambda name: name
)
def test_a_request_that_raises_ends_alone(faulty: WorkerProcess, name: str) -> None:
    stage = name.partition("-")[0]
    shared = "tick tock " * 40
    faulty.submit(raw(f"elsewhere {name}", "say<|loop|>", model="other", max_output=60))
    faulty.submit(raw(f"running {name}", f"{shared}say<|loop|>", model=name, max_output=60))
    faulty.until(lambda: faulty.events.get(f"running {name}"))
    doomed = {"n": 2, "model": name, "max_output": 40} | NEEDED.get(stage, {})
    faulty.send(
        Submit(raw(f"before {name}", "say<|go|>", model=name)),
        Submit(raw(f"doomed {name}", f"{shared}{'tock tick ' * 50}say<|loop|>", **doomed)),
        Submit(raw(f"beside {name}", f"{shared}say<|go|>", model=name, n=2)),
    )
    names = [f"{which} {name}" for which in ("elsewhere", "running", "before", "doomed", "beside")]
    faulty.finish(*names)
    elsewhere, running, before, failed, beside = (faulty.events[each] for each in names)
    assert (only(failed, Failed).code, failed[-1]) == ("internal_error", only(failed, Failed))
    assert text_of(elsewhere) == text_of(running) == "tick tock " * 30
    assert text_of(before) == text_of(beside) == text_of(beside, 1) == HELLO
    assert all(isinstance(events[-1], Finished) for events in (elsewhere, running, before, beside))
    again = faulty.run(raw(f"after {name}", f"{shared}say<|loop|>", model=name, max_output=6))
    assert text_of(again) == "tick tock " * 3
    _assert_nothing_is_left(faulty, name)


def _assert_nothing_is_left(worker: WorkerProcess, model: str) -> None:
    worker.notices.clear()
    stats = next(stats for stats in worker.wait(Heartbeat).models if stats.model == model)
    assert (stats.running, stats.waiting, stats.kv_used, stats.requests_running) == (0, 0, 0, [])


def test_the_failure_is_logged_with_its_traceback(scripted_path: Path) -> None:
    faults = {"request_fails": "doomed", "request_fails_in": "sample"}
    with WorkerProcess("--cpu-threads", "1") as worker:
        worker.load(LoadSpec("m", str(scripted_path), context=256, faults=faults))
        assert only(worker.run(raw("doomed", "say<|go|>")), Failed).message == "RuntimeError: injected fault: _draw"
        worker.parent.close()
        log = worker.stderr()
    assert "request failed unexpectedly id=doomed" in log
    assert "Traceback" in log


class InProcess:
    """A model in this process, stepped by hand: for faults that no switch makes."""

    def __init__(self, path: Path) -> None:
        tap = library.LogTap()
        tap.install()
        library.start_backend()
        self.loaded: LoadedModel = load(LoadSpec("m", str(path), context=256, parallel=4), tap, lambda _: None, 1)
        self.engine: Any = self.loaded.engine
        self.events: dict[str, list[Event]] = {}

    def submit(self, request: InferenceRequest) -> None:
        self.loaded.prepare(request)(time.monotonic())

    def step(self) -> None:
        for item in self.engine.step():
            self.events.setdefault(item.request_id, []).extend(item.events)
        self.engine.check_integrity()

    def run(self) -> None:
        while self.engine.busy:
            self.step()


@pytest.fixture
def in_process(scripted_path: Path) -> Iterator[InProcess]:
    model = InProcess(scripted_path)
    yield model
    model.engine.close()
    model.loaded.free(lambda: None)


def test_a_mask_over_its_deadline_ends_its_request_and_no_others(
    in_process: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even one whose mask waits for the same thread."""
    monkeypatch.setattr(sampler, "_MASK_DEADLINE_S", 0.2)
    compute = sampler.RowSampler._compute_mask

    def slow(self: Any, choice: Any, constraint: Any) -> None:
        if choice.request_id == "slow":
            time.sleep(1.0)
        compute(self, choice, constraint)

    monkeypatch.setattr(sampler.RowSampler, "_compute_mask", slow)
    for name in ("slow", "quick"):
        in_process.submit(raw(name, "say<|loop|>", format=TICKS, max_output=5))
    in_process.submit(raw("free", "say<|loop|>", max_output=5))
    in_process.run()
    assert only(in_process.events["slow"], Failed).message == "the grammar's next mask took longer than 0.2 s"
    assert text_of(in_process.events["quick"]) == text_of(in_process.events["free"]) == "tick tock tick tock tick "


def test_a_step_that_fails_for_no_ones_fault_ends_its_models_requests_and_leaves_a_clean_pool(
    in_process: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_process.submit(raw("cached", "tick tock say<|loop|>", max_output=5))
    in_process.run()
    for name in ("one", "two"):
        in_process.submit(raw(name, f"tick tock say {name}<|loop|>", max_output=50))
    in_process.step()
    with monkeypatch.context() as broken:
        broken.setattr(Scheduler, "offload_idle", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            in_process.step()
    items = in_process.engine.reset(InternalError("it broke"))
    assert {item.request_id: [type(event) for event in item.events][-1] for item in items} == {
        "one": Failed,
        "two": Failed,
    }
    in_process.engine.check_integrity()
    assert in_process.engine.scheduler.kv.free == 1024
    in_process.submit(raw("after", "tick tock say<|loop|>", max_output=5))
    in_process.run()
    assert text_of(in_process.events["after"]) == "tick tock tick tock tick "


def test_a_prefix_that_cant_be_saved_costs_no_request(
    scripted_path: Path, in_process: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy to host RAM finds no memory: the pool goes on."""
    kv: KvPool = in_process.engine.scheduler.kv
    in_process.submit(raw("cached", "tick tock say<|loop|>", max_output=5))
    in_process.run()
    offload = in_process.engine._offload
    monkeypatch.setattr(offload._store, "wants", lambda *_: 1 / 0)
    kv.clear()
    in_process.submit(raw("next", "tick tock say<|loop|>", max_output=5))
    in_process.run()
    assert text_of(in_process.events["next"]) == "tick tock tick tock tick "


CALL = '{"name": "f", "arguments": {"x": ', "}}"
HARD = {
    "brackets": "[" * 1500,
    "closed brackets": "[" * 1500 + "]" * 1500,
    "digits": "1" * 4400,
    "braces": '{"x":' * 1500,
}


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    """Models that call a tool with arguments on which Python's json raises something else than a JSONDecodeError."""
    folder = tmp_path_factory.mktemp("gguf")
    with WorkerProcess("--cpu-threads", "1") as worker:
        for name, value in HARD.items():
            pieces = [value[at : at + 50] for at in range(0, len(value), 50)]
            call = ["<tool_call>", "\n", CALL[0], *pieces, CALL[1], "\n", "</tool_call>"]
            path = build_scripted(
                folder / f"{name}.gguf",
                {"<|go|>": call, "<|loop|>": ["tick ", "tock ", LOOP]},
                template=template("Qwen-Qwen2.5-7B-Instruct.jinja") + "<|go|>",
            )
            worker.load(LoadSpec(name, str(path), context=8192, parallel=4, faults={"check_books": True}))
        yield worker


@pytest.mark.parametrize("mode", ["auto", "required"])
@pytest.mark.parametrize("name", HARD)
def test_arguments_beyond_pythons_limits_end_no_stream_of_others(
    caller: WorkerProcess, name: str, mode: Literal["auto", "required"]
) -> None:
    """In an answer and in history; the answer itself is as long as the model makes it, whatever its parser says."""
    beside = caller.submit(raw(f"beside {name} {mode}", "say<|loop|>", model=name, max_output=80))
    call = ToolCall("call_1", "f", f'{{"x": {HARD[name]}}}')
    history = [Message("user", [Text("Call it.")]), Message("assistant", [call])]
    history.append(Message("tool", [ToolResult("call_1", [Text("done")])]))
    asked = InferenceRequest(
        f"call {name} {mode}",
        name,
        messages=[Message("user", [Text("Call it.")])],
        tools=[Tool("f")],
        tool_choice=ToolChoice(mode),
        sampling=GREEDY,
        max_output=200,
    )
    again = msgspec.structs.replace(asked, id=f"history {name} {mode}", messages=history)
    caller.finish(beside, caller.submit(asked), caller.submit(again))
    assert text_of(caller.events[beside]) == "tick tock " * 40
    assert isinstance(caller.events[asked.id][-1], Finished)
    assert caller.ended(again.id)
