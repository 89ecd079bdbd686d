"""From latents and texts to a concept set: what each picture is shown under, and what names it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ...tverase_core.concept_set import ConceptSet, Guide, concept_set
from ...tverase_core.errors import ConfigError, ShapeMismatchError


def build_concept_set(
    model: Any,
    clip: Any,
    latents: torch.Tensor,
    concept: str,
    captions: Sequence[str],
    share: float = 1.0,
    prompts: Sequence[str] = (),
    contrasts: Sequence[str] = ("",),
) -> ConceptSet:
    """A concept set of latents float [n, c, h, w] as the VAE gives them.

    captions: one for all pictures, or several that the pictures take in turn. share: of the
    pictures that get one, 0 to 1; the rest has the empty caption. prompts, contrasts: texts with
    and without the concept, in turn as well, for guided targets; no prompts: the captions, if any.
    Raises ConfigError for an empty concept name, ShapeMismatchError for latents of another model,
    and what `concept_set` raises.
    """
    from ..host.model.conditioning import encode_texts, to_context
    from ..host.network.latents import scaled, without_time

    if not concept.strip():
        raise ConfigError(
            "The concept has no name. Write what is in the pictures, for example 'cat', into "
            "`concept`."
        )
    latents = without_time(latents)
    _check_channels(model, latents)
    named = prompts or (captions if any(captions) else ())
    lines = list(dict.fromkeys(("", *captions, *named, *contrasts)))
    encoded = to_context(model, encode_texts(clip, lines))

    def rows_of(texts: Sequence[str]) -> torch.Tensor:
        return torch.tensor([lines.index(text) for text in texts], dtype=torch.int64)

    shown = rows_of((*captions, ""))[caption_turns(max(len(latents), 1), len(captions), share)]
    shown = shown[:1] if bool((shown == shown[0]).all()) else shown  # one row serves all
    guide = Guide(encoded.pick(rows_of(named)), encoded.pick(rows_of(contrasts)))
    return concept_set(
        concept.strip(),
        scaled(model, latents) if latents.ndim == 4 else latents,
        encoded.pick(shown),
        encoded.pick(rows_of([""])),
        guide if named else None,
    )


def _check_channels(model: Any, latents: torch.Tensor) -> None:
    channels = model.get_model_object("latent_format").latent_channels
    if latents.ndim == 4 and latents.shape[1] != channels:
        raise ShapeMismatchError(
            f"The pictures were encoded to {latents.shape[1]} latent channels, this model has "
            f"{channels}. Use the VAE of the same checkpoint as the MODEL.",
            "latents",
            (),
            latents.shape,
        )


def caption_turns(count: int, captions: int, share: float) -> torch.Tensor:
    """Which caption each picture has, int64 [count]; the number `captions` stands for none.

    The captions take turns. Each is left out in 1 - share of its turns, spread evenly; different
    captions are left out in different rounds, so that a round has about its share as well.
    """
    turns = torch.arange(count, dtype=torch.float64)
    rounds, caption = turns.div(captions, rounding_mode="floor"), turns % captions
    phase = (caption + 0.5) / captions + 1e-9  # the last term: 0.1 * 10 shall be 1
    captioned = ((rounds + 1) * share + phase).floor() > (rounds * share + phase).floor()
    return torch.where(captioned, caption, captions).long()
