"""The engine's report programs as the parent runs them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from cortex.config.profiles import Profile
from cortex.config.settings import NeuronConfig
from cortex.neuron.catalog.entry import Entry
from cortex.neuron.catalog.gguf_header import read_header
from cortex.neuron.devices.discovery import find_devices as discover
from cortex.neuron.memory.dry_run import ReportFailed, run_device_report, run_memory_plan
from cortex.neuron.models.load_plan import refined_sizes
from cortex.wire.reports import DeviceReport
from cortex.wire.worker import LoadSpec
from tests.models import gemma, smollm2
from tests.neuron.devices.fake_nvml import FakeNvml
from tests.neuron.devices.reported import VULKAN, nothing
from tests.neuron.memory.measuring import loaded_bytes


async def test_a_dry_run_has_a_deadline() -> None:
    command = ["/bin/sleep", "60"]
    with pytest.raises(ReportFailed, match="no answer"):
        await run_memory_plan(LoadSpec("m", "m.gguf", 64), {}, command, deadline_s=0.2)


@pytest.mark.model
@pytest.mark.parametrize("model", [smollm2, gemma])
async def test_a_dry_run_tells_what_a_load_then_takes(model: Callable[[], Path]) -> None:
    path = model()
    spec = LoadSpec("m", str(path), 1024, parallel=2, devices=["CPU"])
    profile = Profile("m", context=1024, parallel=2)
    report = await run_memory_plan(spec, {})
    (planned,) = refined_sizes(Entry("m", profile, header=read_header(path)), 1024, ["cpu0"], ["CPU"], report)
    assert planned == pytest.approx(loaded_bytes(path, 1024, 2), rel=0.02)


def program(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def test_the_real_report_has_the_cpu_and_no_gpu_on_a_cpu_build() -> None:
    report = run_device_report()
    assert [device.name for device in report.devices if device.type == "cpu"] == ["CPU"]
    assert all(device.memory_total > 0 for device in report.devices if device.type == "cpu")
    assert report.llama_cpp


def test_what_the_report_process_prints_is_its_answer() -> None:
    document = msgspec.json.encode(DeviceReport(VULKAN))
    assert run_device_report(program(f"print({document.decode()!r})")) == DeviceReport(VULKAN)


@pytest.mark.parametrize(
    ("text", "deadline_s", "reason"),
    [
        ("import sys; sys.exit('no driver')", 60.0, "exit code 1: no driver"),
        ("import os; os.abort()", 60.0, "exit code -6"),
        ("print('GPU!')", 60.0, "can't be read"),
        ("import time; time.sleep(600)", 0.5, "within"),
    ],
)
def test_a_report_that_fails_says_why_and_the_neuron_serves_without(
    text: str, deadline_s: float, reason: str, caplog: pytest.LogCaptureFixture, nvml: FakeNvml
) -> None:
    def ask() -> DeviceReport:
        return run_device_report(program(text), deadline_s=deadline_s)

    with pytest.raises(ReportFailed, match=reason):
        ask()
    found = discover(NeuronConfig(), nothing, nothing, device_report=ask)
    assert found.devices[0].id == "cuda0"
    assert "llama.cpp can't be asked for its devices" in caplog.text
