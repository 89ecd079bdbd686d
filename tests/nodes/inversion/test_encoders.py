"""Vectors learned in the text encoders of every family, and read by the host's own node."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from host_support.tiny_encoders import FAMILIES, TEXTS, build, build_model
from tverase_core.inversion.config import InversionConfig
from tverase_core.inversion.engine import invert
from tverase_core.inversion.files import (
    export_embeddings,
    load_inversion_set,
    save_inversion_set,
)
from tverase_core.inversion.inversion_set import InversionSet, encoder_digest
from tverase_core.ports import Context, quiet

pytestmark = pytest.mark.training
# Of these the host's tokenizer compares every token with a number, which a vector is not.
UNREAD = ("qwen-image",)


@dataclass
class World:
    name: str
    model: Any
    clip: Any
    folder: Path
    template: str

    def encoder(self) -> Any:
        from tverase_pack.nodes.host.text.encoder import HostTextEncoder

        return HostTextEncoder(self.model, self.clip)

    def weights(self) -> dict[str, Tensor]:
        return {k: v.clone() for k, v in self.clip.cond_stage_model.state_dict().items()}


@pytest.fixture(scope="module", params=list(FAMILIES))
def world(request: pytest.FixtureRequest, pack: Any, tmp_path_factory: Any) -> World:
    import comfy.supported_models

    from host_support import tiny_flow

    name: str = request.param
    if not hasattr(comfy.supported_models, tiny_flow.FAMILIES[FAMILIES[name].model].config):
        pytest.skip(f"this ComfyUI does not know {name}")
    folder = tmp_path_factory.mktemp("embeddings")
    clip = build(name, folder=str(folder))
    return World(name, build_model(name), clip, folder, FAMILIES[name].template)


def vectors(encoder: Any, count: int = 2, each: int = 2, seed: int = 3) -> dict[str, Tensor]:
    source = torch.Generator().manual_seed(seed)
    return {t: torch.randn(count, each, d, generator=source) for t, d in encoder.widths().items()}


def parts_of(world: World, text: str) -> dict[str, Tensor]:
    """What stock CLIPTextEncode gives, by the names of a Context."""
    import nodes

    with torch.inference_mode():
        ((cond, more),) = nodes.CLIPTextEncode().encode(world.clip, text)[0]
    kept = {name: value for name, value in more.items() if torch.is_tensor(value)}
    return {"tokens": cond, **kept}


def a_set(world: World, encoder: Any) -> InversionSet:
    return InversionSet(
        vectors=vectors(encoder),
        losses=torch.zeros(2),
        seeds=torch.arange(2),
        valid=torch.ones(2, dtype=torch.bool),
        concept="cat",
        template=world.template,
        text_encoder=encoder_digest(encoder),
    )


def test_the_hosts_own_node_reads_what_is_exported(world: World) -> None:
    encoder, family = world.encoder(), FAMILIES[world.name]
    file = world.folder / "cat.inversions.safetensors"
    save_inversion_set(file, a_set(world, encoder), "x")
    found = load_inversion_set(file)
    names = export_embeddings(world.folder, "cat", found, "x")
    from safetensors.torch import load_file

    held = load_file(world.folder / f"{names[0]}.safetensors")
    assert held.keys() == family.keys.keys()
    for tokenizer in vars(world.clip.tokenizer).values():
        if hasattr(tokenizer, "embedding_key"):
            assert tokenizer.embedding_size == family.keys[tokenizer.embedding_key]
            tokenizer.embedding_directory = [str(world.folder)]  # as newer hosts do for more
    made = found.contexts(encoder)
    for k, name in enumerate(names):
        # On hosts before 0.19 a name ends at a space only, and chat templates go on without one.
        prompt = world.template.replace("{}", f"embedding:{name} ")
        if world.name in UNREAD:
            with pytest.raises(RuntimeError, match="ambiguous"):
                parts_of(world, prompt)
            continue
        for part, stock in parts_of(world, prompt).items():
            assert torch.allclose(made.parts()[part][k], stock[0], atol=1e-5), part


def scalar(context: Context) -> Tensor:
    """A number that every value of the context moves."""
    total = torch.zeros((), dtype=torch.float64)
    for name, part in context.parts().items():
        if part.is_floating_point():
            source = torch.Generator().manual_seed(len(name))
            total = total + (part.double() * torch.randn(part.shape, generator=source)).sum()
    return total


def test_gradients_are_right_and_reach_the_vectors_alone(world: World) -> None:
    before, encoder = world.weights(), world.encoder()
    given = {t: v.requires_grad_() for t, v in vectors(encoder).items()}
    with torch.enable_grad():
        scalar(encoder.encode_with(given, world.template)).backward()
    for tower, value in given.items():
        gradient = value.grad
        assert gradient is not None
        assert bool((gradient.flatten(1).norm(dim=1) > 0).all()), tower
        with torch.no_grad():
            along = gradient / gradient.norm()
            ends = [
                float(
                    scalar(
                        encoder.encode_with({**given, tower: value + step * along}, world.template)
                    )
                )
                for step in (1e-2, -1e-2)
            ]
        assert (ends[0] - ends[1]) / 2e-2 == pytest.approx(float(gradient.norm()), rel=0.02), tower
    after = world.clip.cond_stage_model.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    for module in (world.clip.cond_stage_model, encoder._copy):
        assert all(p.grad is None for p in module.parameters())
        assert not any({"forward", "encode"} & vars(part).keys() for part in module.modules())


def test_an_inversion_lowers_its_loss(world: World) -> None:
    from tverase_pack.nodes.host.model.denoiser import open_denoiser

    from tverase_core.concept_set import concept_set

    before, encoder = world.weights(), world.encoder()
    shown = encoder.encode(["a cat", ""])
    latent = world.model.model.latent_format.latent_channels
    picture = torch.randn(2, latent, 4, 4, generator=torch.Generator().manual_seed(5))
    pictures = concept_set(
        "cat", picture, shown.pick(torch.tensor([0, 0])), shown.pick(torch.tensor([1]))
    )
    losses = []
    for steps, rate in ((1, 1e-9), (12, 5e-2)):
        config = InversionConfig(
            count=2, steps=steps, learning_rate=rate, template=world.template, judged_draws=4
        )
        with open_denoiser(world.model) as denoiser:
            losses.append(invert(denoiser, encoder, pictures, config, quiet).losses)
    assert bool((losses[1] < losses[0]).all()), losses
    after = world.clip.cond_stage_model.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_prompts_of_unequal_length_stay_what_they_are(world: World) -> None:
    texts = ["", TEXTS[0], TEXTS[1]]
    together = world.encoder().encode(texts)
    seen = []
    for rows, same in together.even():
        for row, number in enumerate(rows.tolist()):
            stock = parts_of(world, texts[number])
            assert {n for n in same.parts()} == stock.keys()
            for name, part in same.parts().items():
                assert torch.equal(part[row], stock[name][0].to(part.dtype)), (number, name)
            seen.append(number)
    assert sorted(seen) == [0, 1, 2]
