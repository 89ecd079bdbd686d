"""ComfyUI and this pack in this process, with the MODEL and CLIP of the material."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from safetensors.torch import load_file

from bench.fault_parts.host import own_folders
from devtools import in_process

from .sizes import GIVEN_FILE, TEXT_FILE, UNET_FILE, Place


class Host:
    """`host`: of `in_process.import_host`; `pack`: this pack."""

    def __init__(self, place: Place):
        self.host = in_process.import_host(place.comfyui)
        own_folders(self.host, place.work)
        self.pack, self._place = in_process.load_pack(), place
        self.given = load_file(place.material / GIVEN_FILE)

    def model(self, dtype: torch.dtype | None = None) -> Any:
        """As the host loads a float16 file by itself, on a CPU in float32, or held in `dtype`."""
        from comfy.sd import load_diffusion_model

        if self._place.tiny:
            from host_support import tiny_host

            tiny_host.register()
        file = self._place.material / UNET_FILE
        with torch.inference_mode():
            return load_diffusion_model(str(file), {"dtype": dtype} if dtype else {})

    def clip(self) -> Any:
        from comfy.sd import load_text_encoder_state_dicts

        weights = load_file(self._place.material / TEXT_FILE)
        with torch.inference_mode():
            if not self._place.tiny:
                options = {"dtype": torch.float32}
                return load_text_encoder_state_dicts([weights], model_options=options)
            from host_support import tiny_host

            made = tiny_host.build_clip()
            made.cond_stage_model.clip_l.transformer.load_state_dict(weights)
            return made

    def follow(self, on_bar: Callable[..., None]) -> None:
        """Let the function hear the nodes' progress bars."""
        import comfy.utils

        comfy.utils.set_progress_bar_global_hook(on_bar)
