"""Which model a task vector was made from."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..errors import BaseMismatchError, ConfigError
from ..tensors import tensor_bytes
from .layout import DIFFUSION_PREFIX
from .sample_values import packed, unpacked, within_rounding

RUNS, RUN = 16, 256  # how much of each weight tells models apart
Verdict = Literal[
    "same", "same_when_rounded", "unverified", "different_weights", "different_architecture"
]


@dataclass(frozen=True, slots=True)
class BaseFingerprint:
    """Identity of a base model.

    architecture: name such as "stable-diffusion-v1" (see `architecture_of`).
    key_digest: 64 hex digits, see `key_digest`.
    sample_sha256: 64 hex digits, see `sample_sha256`; None where the weights were not seen.
    sample_values: see `sample_values`; None where the weights were not seen.
    sample_spread: of models with packed weights, how far their format moves each of these values
        (`sample_values.packed_spread`), 0 for those of plain weights; in the same form.
    dtype, file_name: what the weights were stored as and in (base name only), for people.
    Raises ConfigError on a malformed field.
    """

    architecture: str
    key_digest: str
    sample_sha256: str | None = None
    dtype: str | None = None
    file_name: str | None = None
    sample_values: str | None = None
    sample_spread: str | None = None

    def __post_init__(self) -> None:
        problems = []
        if not self.architecture:
            problems.append("architecture is empty")
        if not _is_sha256(self.key_digest):
            problems.append(f"key_digest: expected 64 hex digits, got {self.key_digest!r}")
        if self.sample_sha256 is not None and not _is_sha256(self.sample_sha256):
            problems.append(f"sample_sha256: expected 64 hex digits, got {self.sample_sha256!r}")
        if self.file_name is not None and ("/" in self.file_name or "\\" in self.file_name):
            problems.append("file_name: give the base name only, a path would leak the machine")
        for name in ("sample_values", "sample_spread"):
            try:
                unpacked(getattr(self, name) or "")
            except ValueError as error:
                problems.append(f"{name}: expected base64 of float32 values, {error}")
        if problems:
            raise ConfigError("base fingerprint: " + "; ".join(problems))

    @classmethod
    def of(cls, weights: Mapping[str, Tensor], prediction: str = "epsilon") -> BaseFingerprint:
        """The fingerprint of weights by ComfyUI's names; `prediction` as in `architecture_of`."""
        shapes = {key: weight.shape for key, weight in weights.items()}
        stored = storage_of((weight.dtype, weight.numel()) for weight in weights.values())
        name = architecture_of(shapes, prediction)
        return cls(name, key_digest(shapes), sample_sha256(weights), stored)

    def compare(self, other: BaseFingerprint) -> Verdict:
        """How sure it is that both name the same weights.

        "different_architecture": other names or shapes. "different_weights": same names and
        shapes, and no equal hash, but another architecture name (SD2 with epsilon or with v), in
        the same dtype other values, or in another dtype values further apart than it rounds.
        "same_when_rounded": of two dtypes, as near as rounding leaves them. "unverified": nothing
        speaks against it, but a hash or a sample is missing. "same": equal values wherever the
        hash looks.
        """
        if self.key_digest != other.key_digest:
            return "different_architecture"
        if self.sample_sha256 is not None and self.sample_sha256 == other.sample_sha256:
            return "same"  # whatever the names: a file does not say whether it predicts v
        if self.architecture != other.architecture:
            return "different_weights"
        if self.sample_sha256 is None or other.sample_sha256 is None:
            return "unverified"
        if self.dtype == other.dtype and self.sample_spread is None:
            return "different_weights"  # devices unpack other formats differently in the last bit
        near = self._near(other)
        if near is None:
            return "unverified"
        return "same_when_rounded" if near else "different_weights"

    def apart(self, other: BaseFingerprint, shapes: Mapping[str, Sequence[int]]) -> float | None:
        """How far the other's weights are from these, relative to them, by one value of each
        matrix and convolution: about 1.4 for unrelated models, 0 for the same. None where a side
        was not sampled. shapes: of all weights, by key."""
        mine, theirs = (unpacked(each.sample_values or "").double() for each in (self, other))
        # Norms and biases are nearly alike in all models.
        maps = [len(shapes[key]) > 1 for key in sorted(shapes) if math.prod(shapes[key])]
        if not len(mine) == len(theirs) == len(maps):
            return None
        rows = torch.tensor(maps)
        return float((theirs - mine)[rows].norm() / mine[rows].norm().clamp_min(1e-30))

    def _near(self, other: BaseFingerprint) -> bool | None:
        if None in (self.sample_values, other.sample_values, self.dtype, other.dtype):
            return None
        mine, theirs = (unpacked(str(each.sample_values)) for each in (self, other))
        spreads = [unpacked(each.sample_spread) for each in (self, other) if each.sample_spread]
        if any(len(spread) != len(mine) for spread in spreads):
            return None
        spread = torch.stack(spreads).amax(0) if spreads else None
        return within_rounding(mine, str(self.dtype), theirs, str(other.dtype), spread)


def check_base(
    vector_base: BaseFingerprint, model: BaseFingerprint, allow_other_weights: bool = False
) -> Verdict:
    """The verdict of `compare`, or BaseMismatchError when a task vector must not be used here."""
    verdict = vector_base.compare(model)
    refused = verdict == "different_architecture" or (
        verdict == "different_weights" and not allow_other_weights
    )
    if refused:
        advice = (
            "Load the model that the task vector was made from"
            if verdict == "different_architecture"
            else "Load that model, or allow different weights if this one is its descendant"
        )
        raise BaseMismatchError(
            f"the task vector was made from {describe(vector_base)}, but this model is "
            f"{describe(model)} ({verdict.replace('_', ' ')}). {advice}."
        )
    return verdict


def base_note(
    verdict: Verdict,
    vector_base: BaseFingerprint,
    model: BaseFingerprint,
    apart: float | None = None,
) -> str:
    """What a user is to know of a verdict that allows a vector; "" when there is nothing. apart: of
    the two, where it is known."""
    stored = f"The vector was made from {vector_base.dtype}, this model is {model.dtype}"
    if verdict == "same_when_rounded":
        return f"{stored}: a sample of its weights agrees as far as the coarser format can tell."
    if verdict == "unverified":
        return (
            f"The base could not be verified: names and shapes of the weights agree, values could "
            f"not be compared. {stored}. Make sure that it is the same model."
        )
    if verdict == "different_weights":
        far = "" if apart is None else f", {apart:.1%} apart in a sample (unrelated models: 140%)"
        return f"This model holds other weights than the one the vector was made from{far}."
    return ""


def describe(base: BaseFingerprint) -> str:
    """A short name for sentences."""
    named = f" '{base.file_name}'" if base.file_name else ""
    values = base.sample_sha256[:12] if base.sample_sha256 else "unknown"
    return f"{base.architecture}{named} (keys {base.key_digest[:12]}, values {values})"


def key_digest(shapes: Mapping[str, Sequence[int]]) -> str:
    """sha256 of the sorted "name 320x4x3x3" lines, in hex; dtypes play no part.

    Where there are `diffusion_model.` names only those count, because users swap text encoders
    freely. Raises ConfigError when `shapes` is empty.
    """
    names = [name for name in shapes if name.startswith(DIFFUSION_PREFIX)] or list(shapes)
    if not names:
        raise ConfigError("key digest: expected at least one weight, got none")
    lines = [f"{name} {'x'.join(map(str, shapes[name]))}\n" for name in sorted(names)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def sample_sha256(weights: Mapping[str, Tensor]) -> str:
    """sha256 of `sampled_runs` of every weight, in their stored dtype, in the order of names, hex.

    Training moves nearly every value, so a sample tells models apart; all values of an SDXL model
    would take as long to hash as the model takes to load (docs/decisions/0010).
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(tensor_bytes(sampled(weights[name])))
    return digest.hexdigest()


def sample_values(weights: Mapping[str, Tensor]) -> str:
    """The middle one of `sampled` of each weight, in the order of names, see `packed`."""
    samples = [sampled(weights[name]) for name in sorted(weights)]
    return packed(sample[len(sample) // 2] for sample in samples if len(sample))


def sampled(weight: Tensor) -> Tensor:
    """The values of `sampled_runs`, in one row, in the weight's dtype, on the CPU; a sample of a
    sample is itself."""
    flat = weight.detach().reshape(-1)
    # As bytes, because fp8 cannot be concatenated; in one piece, because each copy from a GPU
    # waits for it.
    runs = [
        flat[first : first + count].view(torch.uint8) for first, count in sampled_runs(len(flat))
    ]
    return torch.cat(runs).cpu().view(weight.dtype) if runs else flat.cpu()


def storage_of(weights: Iterable[tuple[torch.dtype | str, int]]) -> str:
    """The formats among (dtype or name of a packed format, number of values), that of most values
    first: "float16", or "nvfp4+float16"; empty without any. Dtypes of whole numbers do not count.

    All of them, because a model stored in two differs in its bytes from the same one cast to the
    first, and neither is another model.
    """
    counts: Counter[str] = Counter()
    for dtype, numel in weights:
        if isinstance(dtype, str) or dtype.is_floating_point:
            counts[str(dtype).removeprefix("torch.")] += numel
    return "+".join(name for name, _ in counts.most_common())


def sampled_runs(numel: int) -> list[tuple[int, int]]:
    """(first value, number of values): all of a small weight, else 16 even runs of 256."""
    if numel <= RUNS * RUN:
        return [(0, numel)] if numel else []
    return [((numel - RUN) * i // (RUNS - 1), RUN) for i in range(RUNS)]


def architecture_of(shapes: Mapping[str, Sequence[int]], prediction: str = "epsilon") -> str:
    """The Model Metadata Standard's name for a diffusion model's weights.

    UNets are known by the width of the cross-attention's context: 768 SD1, 1024 SD2 (v: the 768
    model), 2048 SDXL base, 1280 SDXL refiner; smaller or larger ones of the family are
    "sd-unet-<channels>-<context>". Transformers are known by a weight and its shape. Anything
    else is "unknown".
    """
    first = shapes.get(DIFFUSION_PREFIX + "input_blocks.0.0.weight")
    contexts = {
        shapes[key][1] if len(shapes[key]) > 1 else None
        for key in shapes
        if key.startswith(DIFFUSION_PREFIX) and key.endswith(".attn2.to_k.weight")
    }
    width = contexts.pop() if len(contexts) == 1 else None
    # Weights of too few axes, as quantised ones may have, tell nothing.
    if first is None or len(first) < 2 or width is None:
        return _transformer_of(shapes)
    pair = (first[0], width)
    if pair == (320, 1024) and prediction == "v":
        return "stable-diffusion-v2-768-v"
    return _UNETS.get(pair, f"sd-unet-{pair[0]}-{pair[1]}")


# (channels, width of the context) of UNets
_UNETS = {
    (320, 768): "stable-diffusion-v1",
    (320, 1024): "stable-diffusion-v2-512",
    (320, 2048): "stable-diffusion-xl-v1-base",
    (384, 1280): "stable-diffusion-xl-v1-refiner",
}
# (a weight that the family has, its shape, name); the first that fits counts
_TRANSFORMERS: tuple[tuple[str, tuple[int, ...], str], ...] = (
    ("joint_blocks.37.x_block.attn.qkv.weight", (7296, 2432), "stable-diffusion-3.5-large"),
    ("joint_blocks.12.x_block.attn2.qkv.weight", (4608, 1536), "stable-diffusion-3.5-medium"),
    ("joint_blocks.23.x_block.attn.qkv.weight", (4608, 1536), "stable-diffusion-3-medium"),
    ("guidance_in.in_layer.weight", (3072, 256), "flux-1-dev"),
    ("double_blocks.18.img_attn.qkv.weight", (9216, 3072), "flux-1-schnell"),
)


def _transformer_of(shapes: Mapping[str, Sequence[int]]) -> str:
    for key, shape, name in _TRANSFORMERS:
        if tuple(shapes.get(DIFFUSION_PREFIX + key, ())) == shape:
            return name
    return "unknown"


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and all(c in "0123456789abcdef" for c in text)
