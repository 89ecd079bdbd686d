"""Inpainting and editing models: a text-to-image model with more input channels after its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from ....tverase_core.errors import BaseMismatchError
from ....tverase_core.model.fingerprint import key_digest
from ....tverase_core.vector.task_vector import TaskVector

FIRST = "diffusion_model.input_blocks.0.0.weight"  # [out, in, kh, kw], the noise's channels first
Shapes = Mapping[str, Sequence[int]]


def of_text_to_image(
    shapes: Shapes, latent_channels: int, vector: TaskVector, allowed: bool
) -> dict[str, torch.Size] | None:
    """The shapes of the text-to-image model that this one extends, when the vector is of that
    model; else None.

    shapes: of the model's weights. Raises BaseMismatchError for such a vector unless allowed.
    """
    first = tuple(shapes.get(FIRST, ()))
    if len(first) != 4 or first[1] <= latent_channels:
        return None
    plain = {key: torch.Size(shape) for key, shape in shapes.items()}
    plain[FIRST] = torch.Size((first[0], latent_channels, *first[2:]))
    if key_digest(plain) != vector.base.key_digest:
        return None
    if not allowed:
        raise BaseMismatchError(
            f"The task vector was made from the text-to-image model of this family, but this "
            f"model takes a picture beside the noise: {first[1]} input channels for "
            f"{latent_channels}. Load that model, or set other_weights to allow: then the vector "
            f"acts on the first {latent_channels} input channels and on all other weights."
        )
    return plain


def widened(delta: torch.Tensor, channels: int) -> torch.Tensor:
    """The delta [out, c, kh, kw] as [out, channels, kh, kw]: 0 for the channels that it lacks."""
    wide = delta.new_zeros(delta.shape[0], channels, *delta.shape[2:])
    wide[:, : delta.shape[1]] = delta
    return wide
