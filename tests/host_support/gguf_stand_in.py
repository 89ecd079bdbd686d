"""What the ComfyUI-GGUF pack (city96, read at commit 795e451) does to a MODEL, in small.

Its loader cannot be installed from a package index. What matters here, seen on the real pack on
ComfyUI 0.33.0: a weight is a tensor of bytes that says its own shape; layers unpack it at each use
and look at no weight function; patches hang on the tensor and are added after unpacking; the state
dict holds empty stand-ins. One format: Q8_0, 32 int8 values behind a float16 scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import comfy.lora
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.utils
import torch
from torch import Tensor, nn

BLOCK, BYTES = 32, 34


class GGMLTensor(Tensor):
    """Bytes, with the shape of what they stand for."""

    def __new__(cls, held: Tensor, **_: Any) -> GGMLTensor:
        return held.as_subclass(cls)

    def __init__(self, held: Tensor, *, tensor_type: str | None, tensor_shape: torch.Size):
        self.tensor_type, self.tensor_shape, self.patches = tensor_type, tensor_shape, []

    def to(self, *words: Any, **options: Any) -> GGMLTensor:
        moved = super().to(*words, **options)
        for name in ("tensor_type", "tensor_shape", "patches"):
            setattr(moved, name, getattr(self, name, None))
        return moved

    def detach(self) -> GGMLTensor:
        return self

    def clone(self) -> GGMLTensor:
        return self

    @property
    def shape(self) -> torch.Size:
        return getattr(self, "tensor_shape", self.size())


def packed(weight: Tensor) -> GGMLTensor:
    """Q8_0: a block's scale is its largest value / 127."""
    blocks = weight.detach().float().reshape(-1, BLOCK)
    scale = blocks.abs().amax(1, keepdim=True) / 127
    values = torch.where(scale > 0, blocks / scale, torch.zeros(())).round().to(torch.int8)
    held = torch.cat([scale.half().view(torch.uint8), values.view(torch.uint8)], 1)
    return GGMLTensor(held, tensor_type="Q8_0", tensor_shape=weight.shape)


def unpacked(weight: Tensor, dtype: torch.dtype) -> Tensor:
    if getattr(weight, "tensor_type", None) is None:
        return weight.as_subclass(Tensor).to(dtype)
    rows = weight.as_subclass(Tensor).reshape(-1, BYTES)
    scale = rows[:, :2].contiguous().view(torch.float16).to(torch.float32)
    values = rows[:, 2:].contiguous().view(torch.int8)
    return (values * scale).reshape(weight.tensor_shape).to(dtype)


class GGMLOps(comfy.ops.manual_cast):
    class Linear(comfy.ops.manual_cast.Linear):
        def __init__(self, ins: int, outs: int, bias: bool = True, **_: Any):
            nn.Module.__init__(self)
            self.in_features, self.out_features, self.weight, self.bias = ins, outs, None, None

        def _load_from_state_dict(self, state: Any, prefix: str, *_: Any) -> None:
            for name in ("weight", "bias"):
                if state.get(prefix + name) is not None:
                    held = nn.Parameter(state[prefix + name], requires_grad=False)
                    setattr(self, name, held)

        def _save_to_state_dict(self, made: Any, prefix: str, keep: bool) -> None:
            for name, value in self._parameters.items():
                if value is not None:
                    made[prefix + name] = torch.zeros(value.size(), device="meta")

        def get_weight(self, weight: Tensor | None, dtype: torch.dtype) -> Tensor | None:
            if weight is None:
                return None
            plain = unpacked(weight, dtype)
            for patches, key in getattr(weight, "patches", ()):
                plain = comfy.lora.calculate_weight(patches, plain, key)
            return plain

        def cast_bias_weight(self, given: Tensor) -> tuple[Tensor | None, Tensor | None]:
            return self.get_weight(self.weight, given.dtype), self.get_weight(
                self.bias, given.dtype
            )

        def forward_comfy_cast_weights(self, given: Tensor) -> Tensor:
            return nn.functional.linear(given, *self.cast_bias_weight(given))


class GGUFModelPatcher(comfy.model_patcher.ModelPatcher):
    def patch_weight_to_device(
        self, key: str, device_to: Any = None, inplace_update: bool = False
    ) -> None:
        weight = comfy.utils.get_attr(self.model, key)
        if key not in self.patches:
            return
        if getattr(weight, "tensor_type", None) is None:
            super().patch_weight_to_device(key, device_to, inplace_update)
            return
        weight.patches = [(self.patches[key], key)]

    def unpatch_model(self, device_to: Any = None, unpatch_weights: bool = True) -> Any:
        for parameter in self.model.parameters() if unpatch_weights else ():
            if getattr(parameter, "patches", None):
                parameter.patches = []
        return super().unpatch_model(device_to, unpatch_weights)

    def load(self, *words: Any, force_patch_weights: bool = False, **options: Any) -> None:
        super().load(*words, force_patch_weights=True, **options)

    def clone(self, *words: Any, **options: Any) -> GGUFModelPatcher:
        kind, self.__class__ = self.__class__, GGUFModelPatcher
        made = super().clone(*words, **options)
        made.__class__, self.__class__ = GGUFModelPatcher, kind
        return made


def gguf_model(weights: Mapping[str, Tensor], pick: Callable[[str], bool]) -> GGUFModelPatcher:
    """A MODEL as "Unet Loader (GGUF)" gives it: picked matrices packed, the rest float16."""
    state = {
        key: packed(value) if value.ndim == 2 and pick(key) else value.half()
        for key, value in weights.items()
    }
    model = comfy.sd.load_diffusion_model_state_dict(
        state, model_options={"custom_operations": GGMLOps}
    )
    return GGUFModelPatcher.clone(model)
