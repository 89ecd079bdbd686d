"""Measures of what is learned in a text encoder of the host: gradient, loss, stock's reading."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tverase_core.concept_set import concept_set
from tverase_core.inversion.config import InversionConfig
from tverase_core.inversion.engine import invert
from tverase_core.inversion.files import export_embeddings
from tverase_core.inversion.inversion_set import InversionSet, encoder_digest
from tverase_core.ports import TOKENS, Context, quiet

STEP = 1e-2  # of the finite difference


def vectors(encoder: Any, count: int = 2, each: int = 2) -> dict[str, Tensor]:
    """Random ones for every tower, [count, each, d]."""
    source = torch.Generator().manual_seed(3)
    return {t: torch.randn(count, each, d, generator=source) for t, d in encoder.widths().items()}


def scalar(context: Context) -> Tensor:
    """A number that every value of the context moves, float64."""
    total = torch.zeros((), dtype=torch.float64)
    for name, part in context.parts().items():
        if part.is_floating_point():
            source = torch.Generator().manual_seed(len(name))
            total = total + (part.double() * torch.randn(part.shape, generator=source)).sum()
    return total


def gradient_errors(encoder: Any, template: str) -> dict[str, float]:
    """By tower: how far its gradient's length is from a finite difference along it, as a share; 1
    where an embedding of it has none."""
    given, errors = {t: v.requires_grad_() for t, v in vectors(encoder).items()}, {}
    with torch.enable_grad():
        scalar(encoder.encode_with(given, template)).backward()
    for tower, value in given.items():
        gradient = value.grad
        if gradient is None or not bool((gradient.flatten(1).norm(dim=1) > 0).all()):
            errors[tower] = 1.0
            continue
        with torch.no_grad():
            along = STEP * gradient / gradient.norm()
            ends = [
                float(scalar(encoder.encode_with({**given, tower: moved}, template)))
                for moved in (value + along, value - along)
            ]
        errors[tower] = abs((ends[0] - ends[1]) / (2 * STEP) / float(gradient.norm()) - 1)
    return errors


class Reader:
    """A `Denoiser` that predicts no more than one random linear sum of all that it reads."""

    device = torch.device("cpu")

    def __init__(self, schedule: Any):
        self.schedule = schedule

    def predict(self, x_t: Tensor, timesteps: Tensor, context: Context) -> Tensor:
        rows = torch.arange(len(context)).split(1)
        sums = torch.stack([scalar(context.pick(row)) for row in rows]) / 100
        return sums[:, None, None, None].expand(x_t.shape)


def losses(model: Any, encoder: Any, template: str) -> tuple[float, float]:
    """Of an embedding where it starts, and after eight steps."""
    from tverase_pack.nodes.host.network.schedule import schedule_of

    shown = encoder.encode(["a cat", ""])
    rows = (shown.pick(torch.tensor([k])) for k in (0, 1))
    pictures = concept_set("cat", torch.full((1, 4, 4, 4), 3.0), *rows)
    found = []
    for steps, rate in ((1, 1e-9), (8, 0.1)):
        config = InversionConfig(
            count=1, steps=steps, learning_rate=rate, template=template, judged_draws=2
        )
        made = invert(Reader(schedule_of(model)), encoder, pictures, config, quiet)
        found.append(float(made.losses))
    return found[0], found[1]


def a_set(encoder: Any, template: str) -> InversionSet:
    """Two random embeddings of two vectors each."""
    return InversionSet(
        vectors=vectors(encoder),
        losses=torch.zeros(2),
        seeds=torch.arange(2),
        valid=torch.ones(2, dtype=torch.bool),
        concept="cat",
        template=template,
        text_encoder=encoder_digest(encoder),
    )


def stock_parts(clip: Any, text: str) -> dict[str, Tensor]:
    """What stock CLIPTextEncode gives, by the names of a Context."""
    import nodes

    with torch.inference_mode():
        ((cond, more),) = nodes.CLIPTextEncode().encode(clip, text)[0]
    return {TOKENS: cond, **{name: v for name, v in more.items() if torch.is_tensor(v)}}


def stock_difference(clip: Any, encoder: Any, found: InversionSet, folder: Path) -> float:
    """The largest difference between what our splicing makes of a set and what stock
    CLIPTextEncode makes of its exported files, as a share of the largest value.

    All of the host's tokenizers look into that folder, as newer hosts' do more and more. Raises
    RuntimeError where a chat template's reader compares every token with a number.
    """
    names = export_embeddings(folder, "cat", found, "x")
    for tokenizer in vars(clip.tokenizer).values():
        if hasattr(tokenizer, "embedding_key"):
            tokenizer.embedding_directory = [str(folder)]
    made, worst = found.contexts(encoder).parts(), 0.0
    for k, name in enumerate(names):
        # Some hosts end a name at a space only, and chat templates go on without one.
        stock = stock_parts(clip, found.template.replace("{}", f"embedding:{name} "))
        assert stock.keys() == made.keys()
        for part, value in stock.items():
            difference = float((made[part][k] - value[0]).abs().max())
            worst = max(worst, difference / float(value.abs().max()))
    return worst


def copied_weights(clip: Any) -> dict[str, Tensor]:
    """The text model's weights as they are now."""
    return {k: v.clone() for k, v in clip.cond_stage_model.state_dict().items()}


def same_weights(clip: Any, before: Mapping[str, Tensor]) -> bool:
    """Whether every one still has its bits."""
    after = clip.cond_stage_model.state_dict()
    return after.keys() == before.keys() and all(torch.equal(before[k], after[k]) for k in before)
