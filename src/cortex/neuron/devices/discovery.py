"""Which devices this neuron serves on, decided once at the start."""

from __future__ import annotations

import logging
from collections.abc import Callable

from cortex.config.settings import NeuronConfig
from cortex.errors import ConfigError
from cortex.neuron.devices.devices import CpuDevices, DeviceSource
from cortex.neuron.devices.ggml import GgmlDevices, usable
from cortex.neuron.devices.nvml import NvmlDevices, open_nvml
from cortex.neuron.memory.dry_run import ProbeFailed, probe_devices
from cortex.wire.probes import DeviceReport

__all__ = ["find_devices"]

logger = logging.getLogger(__name__)

Bytes = Callable[[str], int]
"""Of the device with this id."""


def find_devices(
    config: NeuronConfig,
    rss_on: Bytes,
    held_on: Bytes,
    extra_bytes: int = 0,
    probe: Callable[[], DeviceReport] = probe_devices,
) -> DeviceSource:
    """1. The CPU, where it is asked for. 2. NVIDIA GPUs as NVML tells, if llama.cpp can use them or can't be asked.
    3. GPUs that llama.cpp reports. 4. The CPU after all. Raises ConfigError when a GPU is named and isn't found.

    `rss_on` gives the resident bytes of a CPU device's workers, `held_on` what the ledger has promised on a device;
    `extra_bytes` is a fault switch: so much more of each CPU device is claimed to be in use by others.
    """
    if config.cpu_devices or config.gpus == "none":  # 1
        return CpuDevices(config, rss_on, extra_bytes)
    report = _asked(probe)
    nvidia = open_nvml(config) if report is None or _has_cuda(report) else "this build of llama.cpp has no CUDA"
    if isinstance(nvidia, NvmlDevices):  # 2
        return nvidia
    if report is not None and usable(report):  # 3
        return GgmlDevices(config, report, held_on)
    if config.gpus != "all":
        raise ConfigError(f"neuron.gpus = {config.gpus!r}, but llama.cpp reports no GPU and {nvidia}")
    logger.info("serving on the CPU", extra={"reason": nvidia})
    return CpuDevices(config, rss_on, extra_bytes)  # 4


def _asked(probe: Callable[[], DeviceReport]) -> DeviceReport | None:
    try:
        return probe()
    except ProbeFailed as error:
        logger.warning("llama.cpp can't be asked for its devices", extra={"reason": str(error)})
        return None


def _has_cuda(report: DeviceReport) -> bool:
    return any(device.backend == "CUDA" for device in report.devices)
