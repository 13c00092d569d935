"""Which devices a process is shown, and what llama.cpp calls them there."""

from __future__ import annotations

from collections.abc import Sequence

from cortex.neuron.devices.devices import Device

__all__ = ["device_environment", "ggml_names"]


def ggml_names(devices: Sequence[Device]) -> list[str]:
    """ggml's names for `devices`, in this order, in a process that `device_environment` shows only these: they count
    from 0 among the visible GPUs of a backend."""
    return [_ggml_name(device, index) for index, device in enumerate(devices)]


def _ggml_name(device: Device, index: int) -> str:
    if device.kind == "cpu":
        return "CPU"
    return device.ggml or f"{'ROCm' if device.kind == 'rocm' else 'CUDA'}{index}"


def device_environment(devices: Sequence[Device]) -> dict[str, str]:
    """The environment in which a process sees only `devices`: NVIDIA's by uuid, since indices change with what else is
    installed, AMD's by index. Empty for drivers without such a variable; llama.cpp is given `Device.ggml` then."""
    if any(device.ggml for device in devices):
        return {}
    if hip := [device.hip for device in devices if device.hip]:
        return {"HIP_VISIBLE_DEVICES": ",".join(hip)}
    gpus = [device.uuid for device in devices if device.kind == "cuda"]
    return {"CUDA_VISIBLE_DEVICES": ",".join(gpus), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
