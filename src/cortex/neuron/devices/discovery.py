"""Chooses where this neuron's devices come from, once, at the start."""

from __future__ import annotations

import logging
from collections.abc import Callable

from cortex.config.settings import NeuronConfig
from cortex.errors import ConfigError
from cortex.neuron.devices.devices import CpuDevices, DeviceSource
from cortex.neuron.devices.ggml import GgmlDevices, usable
from cortex.neuron.devices.nvml import NvmlDevices, open_nvml
from cortex.neuron.memory.dry_run import ReportFailed, run_device_report
from cortex.wire.reports import DeviceReport

__all__ = ["find_devices"]

logger = logging.getLogger(__name__)

BytesOn = Callable[[str], int]
"""Bytes on the device with this id."""


def find_devices(
    config: NeuronConfig,
    rss_on: BytesOn,
    held_on: BytesOn,
    extra_bytes: int = 0,
    device_report: Callable[[], DeviceReport] = run_device_report,
) -> DeviceSource:
    """1. The CPU, if the config asks for it. 2. NVIDIA GPUs from NVML, if llama.cpp can use them or its report failed.
    3. GPUs from llama.cpp's report. 4. The CPU. Raises ConfigError when a GPU that the config names isn't found.

    `rss_on` gives the resident bytes of a CPU device's workers, `held_on` the ledger's reservations on a device;
    `extra_bytes` is a fault switch (see CpuDevices). Blocks for as long as `device_report` does: for the start only.
    """
    if config.cpu_devices or config.gpus == "none":  # 1
        return CpuDevices(config, rss_on, extra_bytes)
    report = _report_or_none(device_report)
    nvidia = open_nvml(config) if report is None or _has_cuda(report) else "this build of llama.cpp has no CUDA"
    if isinstance(nvidia, NvmlDevices):  # 2
        return nvidia
    if report is not None and usable(report):  # 3
        return GgmlDevices(config, report, held_on)
    if config.gpus != "all":
        raise ConfigError(f"neuron.gpus = {config.gpus!r}, but llama.cpp reports no GPU and {nvidia}")
    logger.info("serving on the CPU", extra={"reason": nvidia})
    return CpuDevices(config, rss_on, extra_bytes)  # 4


def _report_or_none(device_report: Callable[[], DeviceReport]) -> DeviceReport | None:
    try:
        return device_report()
    except ReportFailed as error:
        logger.warning("llama.cpp can't be asked for its devices", extra={"reason": str(error)})
        return None


def _has_cuda(report: DeviceReport) -> bool:
    return any(device.backend == "CUDA" for device in report.devices)
