"""CONDITIONING of the host <-> Context of the core, and what a network makes of it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import comfy.model_base
import torch

from ....tverase_core.errors import BaseMismatchError, TextWidthError
from ....tverase_core.ports import Context, joined
from ..network.kinds import refuse_extra_inputs
from ..network.latents import pixels_each, with_time
from ..text.tokens import tokens_of

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

POOLED = "pooled_output"
# What Anima's CLIP gives a word of the T5 tokenizer, without an axis of rows: the network reads one
# text at a time.
_EACH_WORD = ("t5xxl_ids", "t5xxl_weights")
# By what name each family's network is told the width of its texts.
_WIDTHS = (
    "context_dim",  # Stable Diffusion 1, 2 and XL
    "cap_feat_dim",  # Lumina 2, Z-Image
    "context_in_dim",  # Flux, FLUX.2, Chroma, HunyuanImage
    "joint_attention_dim",  # Qwen-Image
    "cond_seq_dim",  # AuraFlow
    "crossattn_emb_channels",  # Cosmos, Anima
    "text_dim",  # Wan
    "text_feat_dim",  # OmniGen2
)


def encode_texts(clip: Any, texts: Sequence[str]) -> list[Mapping[str, Any]]:
    """What the user's CLIP, of any family, makes of each text: "cond" [1, s, d], "pooled_output"
    [1, p] or None, and what else it gives, by the host's names."""
    return [
        clip.encode_from_tokens(tokens_of(clip, text), return_pooled=True, return_dict=True)
        for text in texts
    ]


def to_context(model: ModelPatcher, encoded: Sequence[Mapping[str, Any]]) -> Context:
    """One row an item of `encode_texts`, for this model. Raises as `rows_of`."""
    names = [{name for name, value in made.items() if value is not None} for made in encoded]
    some = set.union(*names) - set.intersection(*names)
    if some:
        raise BaseMismatchError(
            f"For some of these texts the CLIP gives {', '.join(sorted(some))} beside, for others "
            "not, as HunyuanImage's does for words in quotes. Write all prompts and captions "
            "without quotes."
        )
    return joined(*(rows_of(model, **made) for made in encoded))


def rows_of(model: ModelPatcher, cond: torch.Tensor, **extra: Any) -> Context:
    """The same for n rows at once; gradients flow to cond [n, s, d] and to what is in `extra`.

    Raises TextWidthError when the CLIP belongs to another family than the model,
    BaseMismatchError when the model wants more than noise and text, or the CLIP gives more, or not
    for every text.
    """
    refuse_extra_inputs(model)
    wanted = text_width(model)
    if wanted is not None and cond.shape[-1] != wanted:
        raise TextWidthError(
            f"This CLIP gives texts of width {cond.shape[-1]}, the MODEL takes {wanted}. "
            "Connect the CLIP of the same checkpoint as the MODEL."
        )
    given = {name: _as_row(model, name, v) for name, v in extra.items() if v is not None}
    if type(model.model).encode_adm is comfy.model_base.BaseModel.encode_adm:
        given.pop(POOLED, None)  # every CLIP gives it, and this network does not take it
    unknown = [
        name
        for name, value in given.items()
        if not torch.is_tensor(value) or len(value) != len(cond)
    ]
    if unknown:
        raise BaseMismatchError(
            f"This CLIP gives {', '.join(unknown)} beside the text, which training does not know. "
            "Use the text-to-image model and CLIP of the family."
        )
    return Context(cond.clone().float(), {name: _own(value) for name, value in given.items()})


def _as_row(model: ModelPatcher, name: str, value: Any) -> Any:
    """Of each word [t] -> [1, t, 1], so that texts of unequal length can be joined."""
    reads = hasattr(model.model.diffusion_model, "preprocess_text_embeds")
    if reads and name in _EACH_WORD and torch.is_tensor(value):
        return value[None, :, None]
    return value


def as_given(context: Context) -> dict[str, Any]:
    """What the text encoder gave beside the tokens of rows of one text, in the host's form."""
    return {
        POOLED: None,
        **{n: v[0, :, 0] if n in _EACH_WORD else v for n, v in context.extra.items()},
    }


def drawn_as_one(context: Context) -> Iterator[torch.Tensor]:
    """Numbers of even rows that the host can draw together, int64: all, or those of one text."""
    if not any(name in context.extra for name in _EACH_WORD):
        yield torch.arange(len(context))
        return
    flat = torch.cat([part.flatten(1).double() for part in context.parts().values()], 1)
    texts, text_of = torch.unique(flat, dim=0, return_inverse=True)
    for text in range(len(texts)):
        yield (text_of == text).nonzero().flatten()


def conditioning(context: Context) -> list[list[Any]]:
    """CONDITIONING of rows of one size, as `drawn_as_one` gives them: a row for each picture of the
    batch, or one that all share."""
    if any(name in context.extra for name in _EACH_WORD):
        context = context.pick(torch.zeros(1, dtype=torch.int64))
    return [[context.tokens, as_given(context)]]


def _own(value: torch.Tensor) -> torch.Tensor:
    return value.clone().float() if value.is_floating_point() else value.clone()


def text_width(model: ModelPatcher) -> int | None:
    """How wide the texts are that the network takes; None where its class does not say."""
    config = model.model.model_config.unet_config
    embedder = config.get("context_embedder_config")  # SD3
    if embedder:
        return int(embedder["params"]["in_features"])
    captions = config.get("caption_channels")  # HiDream: of its T5 and its Llama
    if isinstance(captions, list):
        return int(captions[0])
    known = inspect.signature(type(model.model.diffusion_model).__init__).parameters
    for name in _WIDTHS:
        if name in config:
            return int(config[name])
        default = known[name].default if name in known else inspect.Parameter.empty
        if isinstance(default, int):
            return default
    return None


def network_inputs(
    model: ModelPatcher, context: Context, shape: Sequence[int], device: torch.device
) -> dict[str, Any]:
    """What this model's network takes beside noise and time, by its own names, "context" among
    them: the host makes it from the conditioning, as when it draws.

    context: n even rows; shape: [n, c, h, w] of the noise. Tensors are as the conditioning has
    them in dtype, on `device`. Gradients flow.
    """
    side, given = pixels_each(model), context.to(device)
    # Row by row, as the host does it: of several rows it would count the tokens together.
    rows = [
        model.model.extra_conds(
            cross_attn=row.tokens,
            **as_given(row),
            noise=with_time(model, torch.zeros((1, *shape[1:]), device=device)),
            device=device,
            width=shape[-1] * side,
            height=shape[-2] * side,
            prompt_type="positive",
        )
        for row in (given.pick(place) for place in torch.arange(len(given), device=device).split(1))
    ]
    inputs = {
        name: first.concat([row[name] for row in rows[1:]]) for name, first in rows[0].items()
    }
    inputs["context"] = inputs.pop("c_crossattn")
    return {
        name: value.to(device) if torch.is_tensor(value) else value
        for name, value in inputs.items()
    }


def is_masked(context: Context) -> bool:
    """Whether some of its tokens are padding that a mask leaves out."""
    return any(
        name not in _EACH_WORD and not part.is_floating_point() and bool((part == 0).any())
        for name, part in context.extra.items()
    )
