"""Where the checks run: ComfyUI on this machine's device, the pack, the size of the models."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from devtools import in_process
from devtools.machine import cpu_name

GIB = 1024**3


class SkippedError(Exception):
    """This machine or this version cannot do what a check asks; why."""


@dataclass(frozen=True)
class Place:
    """device: that of ComfyUI. tiny: small models. environment: what the file says of the machine;
    no folder of it."""

    device: Any
    tiny: bool
    work: Path
    environment: dict[str, str]


def open_place(comfyui: Path, tiny: bool, work: Path, *, dynamic: bool) -> Place:
    """Import ComfyUI and the pack. dynamic: with ComfyUI's dynamic VRAM where it can be had."""
    prepared = dynamic and _before_torch()
    import torch

    cpu = not torch.cuda.is_available()
    host = in_process.import_host(comfyui, cpu=cpu)
    host.folder_paths.set_output_directory(str(work))
    in_process.load_pack()
    import comfy.model_management
    from tverase_pack.nodes.host.app.version import host_version

    device = comfy.model_management.get_torch_device()
    if prepared and not cpu:
        _switch_on_dynamic(device)
    memory = comfy.model_management.get_total_memory(device) / GIB
    environment = {
        "device": "cpu" if cpu else torch.cuda.get_device_name(device),
        "device_memory": f"{memory:.0f} GiB",
        "cpu": cpu_name(),
        "comfyui": host_version(),
        "torch": torch.__version__,
    }
    return Place(device, tiny, work, environment)


def _before_torch() -> bool:
    """What ComfyUI's main.py does for dynamic VRAM before it imports torch."""
    if find_spec("comfy_aimdo") is None:
        return False
    import comfy_aimdo.control

    return comfy_aimdo.control.init() is not False


def _switch_on_dynamic(device: Any) -> None:
    """What it does afterwards."""
    import comfy.memory_management
    import comfy.model_patcher
    import comfy_aimdo.control

    if hasattr(comfy.model_patcher, "ModelPatcherDynamic") and comfy_aimdo.control.init_devices(
        [device.index or 0]
    ):
        comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
        comfy.memory_management.aimdo_enabled = True
