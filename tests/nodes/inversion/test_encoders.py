"""Vectors learned in the text encoders of every family, and read by the host's own node."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from host_support.tiny_encoders import FAMILIES, build, build_model
from tverase_core.concept_set import concept_set
from tverase_core.errors import BaseMismatchError, ConfigError, TextWidthError
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
        # Some hosts end a name at a space only, and chat templates go on without one.
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


class Reader:
    """A `Denoiser` that predicts no more than a random linear map of all that it reads."""

    device = torch.device("cpu")

    def __init__(self, schedule: Any):
        self.schedule = schedule

    def predict(self, x_t: Tensor, timesteps: Tensor, context: Context) -> Tensor:
        return (
            torch.stack([scalar(context.pick(row[None])) for row in torch.arange(len(context))])[
                :, None, None, None
            ].expand(x_t.shape)
            / 100
        )


def test_an_inversion_lowers_its_loss(world: World) -> None:
    from tverase_pack.nodes.host.network.schedule import schedule_of

    before, encoder = world.weights(), world.encoder()
    shown = encoder.encode(["a cat", ""])
    rows = (shown.pick(torch.tensor([k])) for k in (0, 1))
    pictures = concept_set("cat", torch.full((1, 4, 4, 4), 3.0), *rows)
    losses = []
    for steps, rate in ((1, 1e-9), (8, 0.1)):
        config = InversionConfig(
            count=1, steps=steps, learning_rate=rate, template=world.template, judged_draws=2
        )
        denoiser = Reader(schedule_of(world.model))
        losses.append(float(invert(denoiser, encoder, pictures, config, quiet).losses))
    assert losses[1] < losses[0]
    after = world.clip.cond_stage_model.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_prompts_of_unequal_length_stay_what_they_are(world: World) -> None:
    texts = ["", "a cat", "a cat and a dog on a mat"]
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


def test_what_a_text_encoder_says_of_itself(world: World) -> None:
    """The files' keys, and whether this host reads them by name."""
    fresh = build(world.name, folder=str(world.folder))
    reads = {
        key: part.embedding_directory is not None
        for part in vars(fresh.tokenizer).values()
        if (key := getattr(part, "embedding_key", None))
    }
    said = World(world.name, world.model, fresh, world.folder, "").encoder().remarks()
    assert all(key.removeprefix("clip_") in said[0] for key in FAMILIES[world.name].keys)
    unread = [key for key, read in reads.items() if not read]
    assert len(said) == 1 + bool(unread)
    assert all(key in said[-1] for key in unread)


def of(name: str, **options: Any) -> tuple[Any, Any]:
    """(MODEL, CLIP) of a family."""
    return build_model(name), build(name, **options)


def encoder_of(model: Any, clip: Any) -> Any:
    from tverase_pack.nodes.host.text.encoder import HostTextEncoder

    return HostTextEncoder(model, clip)


@pytest.mark.parametrize("name", ["lumina2", "chroma"])
def test_half_precision_stays_half_and_autograd_keeps_no_copy(pack: Any, name: str) -> None:
    from tverase_pack.nodes.host.text.memory import gradient_bytes, held_bytes

    model, clip = of(name, dtype=torch.float16)
    held = {p.data_ptr(): p.dtype for p in clip.cond_stage_model.parameters() if p.numel()}
    encoder, template = encoder_of(model, clip), FAMILIES[name].template
    for parameter in encoder._copy.parameters():
        if parameter.numel():
            assert held[parameter.data_ptr()] == parameter.dtype
    given = {t: v.requires_grad_() for t, v in vectors(encoder).items()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        made = encoder.encode_with(given, template)
    blocks = 4 * sum(
        p.numel()
        for n, p in clip.cond_stage_model.named_parameters()
        if "layer" in n or "block" in n
    )
    assert sum(kept.values()) < blocks / 4
    assert sum(kept.values()) < gradient_bytes(clip, template, 2, 2) < blocks
    scalar(made).backward()
    assert held_bytes(clip) <= 2 * sum(p.numel() for p in clip.cond_stage_model.parameters()) + 64
    for value in given.values():
        assert value.grad is not None
        assert bool(value.grad.any())


def test_another_family_is_refused(pack: Any) -> None:
    """Flux's and SD3's texts are both 4096 wide, Chroma's are T5's too."""
    with pytest.raises(BaseMismatchError, match="PixArtTokenizer, the MODEL .Flux. wants FluxTok"):
        encoder_of(build_model("flux"), build("chroma"))
    with pytest.raises(TextWidthError, match="width 96, the MODEL takes 32"):
        model = build_model("chroma")
        model.model.model_config.clip_target = lambda state_dict: None  # some families do not say
        encoder_of(model, build("flux2")).encode(["a cat"])


def test_templates_that_cannot_hold_vectors(pack: Any) -> None:
    flux, hidream = encoder_of(*of("flux")), encoder_of(*of("hidream"))
    with pytest.raises(ConfigError, match="needs 79 tokens, the text encoder takes 75"):
        flux.encode_with(vectors(flux, each=78), "a {}")
    with pytest.raises(ConfigError, match="no embedding in place of {} for the text encoder t5xxl"):
        flux.encode_with(vectors(flux), "super{}")
    with pytest.raises(ConfigError, match="text encoder t5xxl, or not the whole"):
        hidream.encode_with(vectors(hidream), "an " + "old " * 65 + "{}")  # 131 of T5's 128


def test_a_prompt_that_the_encoder_would_cut(pack: Any) -> None:
    encoder = encoder_of(*of("hidream"))
    encoder.encode(["cat " * 100])
    with pytest.raises(ConfigError, match="t5xxl reads 128 tokens of a prompt"):
        encoder.encode(["cat " * 200])


def test_chat_templates_hide_the_last_word(pack: Any) -> None:
    with pytest.raises(BaseMismatchError, match="qwen3_4b puts every prompt into a template"):
        encoder_of(*of("z-image")).last_tokens(["a cat"], "qwen3_4b")
    chroma = encoder_of(*of("chroma"))
    words = chroma._clip.tokenizer.clip_t5xxl.tokenizer("a cat")["input_ids"]
    assert chroma.last_tokens(["a cat", ""], "t5xxl") == [len(words) - 2, 0]


def test_few_shot_knows_clip_alone(pack: Any) -> None:
    from tverase_pack.nodes.host.text.edits import EditableHostTextEncoder

    with pytest.raises(BaseMismatchError, match="has the text encoders t5xxl"):
        EditableHostTextEncoder(*of("flux"))


def test_a_lora_is_part_of_a_language_model_too(pack: Any) -> None:
    model, clip = of("lumina2")
    patched = clip.clone()
    key = "gemma2_2b.transformer.model.layers.0.mlp.up_proj.weight"
    shape = clip.cond_stage_model.state_dict()[key].shape
    assert patched.add_patches({key: ("diff", (torch.ones(shape),))}, 0.1)
    with torch.inference_mode():
        wanted = patched.encode_from_tokens(patched.tokenize("a cat"), return_dict=True)["cond"]
        plain = clip.encode_from_tokens(clip.tokenize("a cat"), return_dict=True)["cond"]
    made = encoder_of(model, patched).encode(["a cat"]).tokens
    assert torch.allclose(made, wanted, atol=1e-5)
    assert not torch.allclose(made, plain, atol=1e-3)
