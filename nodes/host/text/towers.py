"""The text encoders of a CLIP, and by what names ComfyUI knows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import comfy.clip_model
import comfy.sd1_clip
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

from ....tverase_core.errors import BaseMismatchError, ConfigError
from .tokens import tokens_of

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

MANY = 1_000_000  # tokens: what tokenizers of language models call their limit is none


@dataclass(frozen=True, slots=True)
class Tower:
    """One text encoder.

    name: the key of its embeddings' files without "clip_": l, g, h, t5xxl, qwen3_4b. place: where
    `tokenize` puts its tokens. part: attribute of the CLIP's text model that holds it. is_clip:
    whether it is one of OpenAI's kind, small and with 77 places. places: how many tokens it was
    made for, where it says so.
    """

    name: str
    place: str
    part: str
    tokenizer: Any
    is_clip: bool
    places: int | None

    def of(self, text_model: torch.nn.Module) -> Any:
        """It, in this text model or a copy of it."""
        return getattr(text_model, self.part)

    def table(self, text_model: torch.nn.Module) -> torch.nn.Module:
        """The layer that holds the vectors of its words."""
        layer: torch.nn.Module = self.of(text_model).transformer.get_input_embeddings()
        return layer

    @property
    def reads_embeddings(self) -> bool:
        """Whether this ComfyUI looks for `embedding:name` in its prompts: for many it does not."""
        return self.tokenizer.embedding_directory is not None


def towers_of(clip: Any) -> tuple[Tower, ...]:
    """Those that words reach as vectors of a table, SDXL's l before g.

    Raises BaseMismatchError when there is none.
    """
    found = []
    for place in sorted(tokens_of(clip, ""), reverse=True):
        tokenizer = getattr(clip.tokenizer, _attribute(clip.tokenizer, place), None)
        part = _attribute(clip.cond_stage_model, place)
        encoder = getattr(clip.cond_stage_model, part, None)
        if hasattr(tokenizer, "embedding_key") and hasattr(encoder, "transformer"):
            name = tokenizer.embedding_key.removeprefix("clip_")
            is_clip = isinstance(encoder.transformer, comfy.clip_model.CLIPTextModel)
            config = getattr(getattr(encoder.transformer, "model", None), "config", None)
            places = getattr(config, "max_position_embeddings", None)
            found.append(Tower(name, place, part, tokenizer, is_clip, places))
    if not found:
        raise BaseMismatchError(
            f"This CLIP ({type(clip.cond_stage_model).__name__}) turns words into no vectors that "
            "can be learned. Expected CLIP, T5, or a language model, as the stock loaders make it."
        )
    return tuple(found)


def lacking_towers(clip: Any) -> list[str]:
    """Places of text encoders that the family has and this CLIP has not, such as SD3's T5. Anima
    reads T5's tokens without any."""
    text_model = clip.cond_stage_model
    return [
        place
        for place in tokens_of(clip, "")
        if getattr(text_model, _attribute(text_model, place), clip) is None
    ]


def _attribute(holder: Any, place: str) -> str:
    """ComfyUI's classes hold "l" as clip_l, and "t5xxl" as t5xxl or clip_t5xxl."""
    return f"clip_{place}" if hasattr(holder, f"clip_{place}") else place


def refuse_other_family(model: ModelPatcher, clip: Any) -> None:
    """Raise BaseMismatchError when ComfyUI reads the texts of this MODEL's family in another way
    than this CLIP does; for some families it does not say. The widths of UNets' texts tell."""
    config = model.model.model_config
    tells = getattr(type(config), "clip_target", None)  # a newer host's objects have any attribute
    if isinstance(model.model.diffusion_model, UNetModel) or tells is None:
        return
    target = tells(config, {})
    if target is None:
        return
    if not isinstance(clip.tokenizer, target.tokenizer):
        raise BaseMismatchError(
            f"This CLIP reads texts by {type(clip.tokenizer).__name__}, the MODEL "
            f"({type(config).__name__}) wants {target.tokenizer.__name__}. Load the text encoder "
            "of the MODEL's family, and in a stock CLIP loader choose that family as its type."
        )


def refuse_cut(tower: Tower, rows: Sequence[Sequence[Any]], text: str) -> None:
    """Raise ConfigError when the tower would read less of the text than all, or more than it has
    places for. rows: of `tokenize`. CLIP's 77 are no limit: the host reads long texts in parts.
    """
    longest, own = tower.tokenizer.max_length, rows
    if longest < MANY:
        own = tower.tokenizer.tokenize_with_weights(text)
    if tower.places is not None:
        longest = min(longest, tower.places)
    if not tower.is_clip and (len(rows) < len(own) or max(map(len, rows)) > longest):
        raise ConfigError(
            f"{text[:40]!r}... is longer than the text encoder takes: {tower.name} reads {longest} "
            "tokens of a prompt. Shorten the prompt."
        )
