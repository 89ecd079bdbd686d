"""Everything that is needed to draw pictures the user's way, with deltas at work in the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ....tverase_core.ports import Context
from ..model.denoiser import HostDenoiser, open_denoiser
from ..network.latents import decoded
from ..text.encoder import HostTextEncoder
from .sampling import SamplerSettings, sample_latents

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


class HostSampler:
    """Implements `ports.Sampler` on an open denoiser: what is attached to it acts."""

    def __init__(
        self, denoiser: HostDenoiser, vae: Any, empty: Context, settings: SamplerSettings
    ) -> None:
        self._denoiser, self._vae, self._empty = denoiser, vae, empty
        self._settings = settings

    @torch.no_grad()
    def images(self, context: Context, seeds: Sequence[int]) -> torch.Tensor:
        pictures = decoded(self._vae, self.latents(context, seeds))
        self._denoiser.ensure_loaded()  # the VAE may have pushed it out of memory
        return pictures[..., :3].float().cpu().clamp(0, 1)

    @torch.no_grad()
    def latents(self, context: Context, seeds: Sequence[int]) -> torch.Tensor:
        """float32 [n, c, h, w], not scaled."""
        # A judge may have pushed it out of memory; the sampler would load it without its LoRA.
        self._denoiser.ensure_loaded()
        return sample_latents(
            self._denoiser.patcher, context, self._empty, list(seeds), self._settings
        )


@dataclass(frozen=True, slots=True)
class Studio:
    """A loaded model, its text encoder, and a sampler with the user's settings."""

    denoiser: HostDenoiser
    encoder: HostTextEncoder
    sampler: HostSampler
    empty: Context


@contextmanager
def open_studio(
    model: ModelPatcher,
    clip: Any,
    vae: Any,
    settings: SamplerSettings,
    *,
    purpose: str,
    extra_memory_bytes: int = 0,
    autocast: bool = False,
    encoder: HostTextEncoder | None = None,
) -> Iterator[Studio]:
    """Load a clone of the model for drawing and gradients; see `open_denoiser`.

    vae: None where only latents are wanted. encoder: this MODEL's of this CLIP, where there is one
    already; each holds a copy of the text model.
    """
    encoder = encoder or HostTextEncoder(model, clip)
    empty = encoder.encode([""])
    with open_denoiser(model, extra_memory_bytes, purpose=purpose, autocast=autocast) as denoiser:
        yield Studio(denoiser, encoder, HostSampler(denoiser, vae, empty, settings), empty)
