"""Vectors learned in the text encoders of every family, and read by the host's own node."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from host_support.encoder_steps import (
    a_set,
    copied_weights,
    gradient_errors,
    losses,
    same_weights,
    scalar,
    stock_difference,
    stock_parts,
    vectors,
)
from host_support.saved_by_autograd import saved_by_autograd
from host_support.tiny_encoders import FAMILIES, UNREAD, build, build_model, known
from tverase_core.concept_set import concept_set
from tverase_core.errors import BaseMismatchError, ConfigError, TextWidthError
from tverase_core.inversion.files import load_inversion_set, save_inversion_set
from tverase_core.ports import TOKENS

pytestmark = pytest.mark.training


@dataclass
class World:
    name: str
    model: Any
    clip: Any
    folder: Path
    template: str

    def encoder(self) -> Any:
        return encoder_of(self.model, self.clip)


def encoder_of(model: Any, clip: Any) -> Any:
    from tverase_pack.nodes.host.text.encoder import HostTextEncoder

    return HostTextEncoder(model, clip)


@pytest.fixture(scope="module", params=list(FAMILIES))
def world(request: pytest.FixtureRequest, pack: Any, tmp_path_factory: Any) -> World:
    name, folder = request.param, tmp_path_factory.mktemp("embeddings")
    return World(name, *of(name, folder=str(folder)), folder, FAMILIES[name].template)


def test_the_hosts_own_node_reads_what_is_exported(world: World) -> None:
    encoder, family = world.encoder(), FAMILIES[world.name]
    file = world.folder / "cat.inversions.safetensors"
    save_inversion_set(file, a_set(encoder, world.template), "x")
    found = load_inversion_set(file)
    if world.name in UNREAD:
        with pytest.raises((RuntimeError, TypeError), match=UNREAD[world.name]):
            stock_difference(world.clip, encoder, found, world.folder)
    else:
        assert stock_difference(world.clip, encoder, found, world.folder) <= 1e-5
    held = load_file(world.folder / "cat-00.safetensors")
    assert held.keys() == family.keys.keys()
    for tokenizer in vars(world.clip.tokenizer).values():
        if getattr(tokenizer, "embedding_key", None) in family.keys:
            assert tokenizer.embedding_size == family.keys[tokenizer.embedding_key]


def test_gradients_are_right_and_reach_the_vectors_alone(world: World) -> None:
    before, encoder = copied_weights(world.clip), world.encoder()
    assert max(gradient_errors(encoder, world.template).values()) < 0.02
    assert same_weights(world.clip, before)
    for module in (world.clip.cond_stage_model, encoder._copy):
        assert all(p.grad is None for p in module.parameters())
        assert not any({"forward", "encode"} & vars(part).keys() for part in module.modules())


def test_an_inversion_lowers_its_loss(world: World) -> None:
    before = copied_weights(world.clip)
    first, last = losses(world.model, world.encoder(), world.template)
    assert last < first
    assert same_weights(world.clip, before)


def test_prompts_of_unequal_length_stay_what_they_are(world: World) -> None:
    from tverase_pack.nodes.host.model.conditioning import as_given

    texts = ["", "a cat", "a cat and a dog on a mat"]
    together = world.encoder().encode(texts)
    seen = []
    for rows, same in together.even():
        for row, number in enumerate(rows.tolist()):
            stock = stock_parts(world.clip, texts[number])
            one = same.pick(torch.tensor([row]))
            given = {name: v for name, v in as_given(one).items() if v is not None}
            assert {TOKENS, *given} == stock.keys()
            for name, part in {TOKENS: one.tokens, **given}.items():
                assert torch.equal(part, stock[name].to(part.dtype)), (number, name)
            seen.append(number)
    assert sorted(seen) == [0, 1, 2]


def test_each_vector_stands_in_a_template_of_its_own(world: World) -> None:
    """Of unequal length, where the family's texts are."""
    encoder, told = world.encoder(), [world.template, f"{world.template} on a mat"]
    given = {tower: value[:2] for tower, value in vectors(encoder).items()}
    together = encoder.encode_with(given, told)
    for number, text in enumerate(told):
        alone = encoder.encode_with({t: v[number : number + 1] for t, v in given.items()}, text)
        ((_, mine),) = together.pick(torch.tensor([number])).even()
        for name, part in alone.parts().items():
            assert torch.allclose(mine.parts()[name], part, atol=1e-5), (number, name)


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
    """(MODEL, CLIP) of a family, where this host knows it."""
    if not known(name):
        pytest.skip(f"this ComfyUI does not know {name}")
    return build_model(name), build(name, **options)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("lumina2", torch.float16), ("chroma", torch.bfloat16), ("chroma", torch.float8_e4m3fn)],
)
def test_weights_stay_as_they_are_held_and_autograd_keeps_no_copy(
    pack: Any, name: str, dtype: torch.dtype
) -> None:
    from tverase_pack.nodes.host.text.memory import gradient_bytes, held_bytes

    model, clip = of(name, dtype=dtype)
    held = {p.data_ptr(): p.dtype for p in clip.cond_stage_model.parameters() if p.numel()}
    encoder, template = encoder_of(model, clip), FAMILIES[name].template
    copied = [p for p in encoder._copy.parameters() if p.numel()]
    assert all(held[p.data_ptr()] == p.dtype for p in copied)
    given = {t: v.requires_grad_() for t, v in vectors(encoder).items()}
    with saved_by_autograd() as saved:
        made = encoder.encode_with(given, template)
    blocks = sum(
        p.numel()
        for key, p in clip.cond_stage_model.named_parameters()
        if ".layers." in key or ".block." in key
    )
    assert saved.nbytes() < blocks  # a quarter of them in float32
    assert saved.nbytes() < gradient_bytes(clip, template, 2, 2) < 4 * blocks
    assert held_bytes(clip) < (dtype.itemsize + 1) * sum(p.numel() for p in copied)
    scalar(made).backward()
    assert all(v.grad is not None and bool(v.grad.any()) for v in given.values())


def test_scaled_fp8_weights_stay_so(pack: Any) -> None:
    import comfy.ops

    if not hasattr(comfy.ops, "scaled_fp8_ops"):
        pytest.skip("this ComfyUI unpacks such files into its quantised tensors")
    model, clip = of("flux", t5xxl_scaled_fp8=torch.float8_e4m3fn)
    kinds = {p.dtype for p in encoder_of(model, clip)._copy.t5xxl.parameters()}
    assert torch.float8_e4m3fn in kinds
    assert max(gradient_errors(encoder_of(model, clip), "a {}").values()) < 0.02
    patched = clip.clone()
    key = "t5xxl.transformer.encoder.block.0.layer.1.DenseReluDense.wo.weight"
    assert patched.add_patches({key: ("diff", (torch.ones(32, 96),))}, 0.1)
    with pytest.raises(BaseMismatchError, match="with a LoRA or another patch on it"):
        encoder_of(model, patched)


def test_another_family_is_refused(pack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flux's and SD3's texts are both 4096 wide, Chroma's are T5's too."""
    with pytest.raises(BaseMismatchError, match="PixArtTokenizer, the MODEL"):
        encoder_of(build_model("flux"), build("chroma"))
    model, clip = build_model("chroma"), of("flux2")[1]
    family = type(model.model.model_config)
    monkeypatch.setattr(family, "clip_target", lambda self, state_dict: None)  # some do not say
    encoder = encoder_of(model, clip)
    with pytest.raises(TextWidthError, match="width 96, the MODEL takes 32"):
        encoder.encode(["a cat"])


def test_templates_that_cannot_hold_vectors(pack: Any) -> None:
    flux, hidream = encoder_of(*of("flux")), encoder_of(*of("hidream"))
    with pytest.raises(ConfigError, match="needs 79 tokens, the text encoder takes 75"):
        flux.encode_with(vectors(flux, each=78), "a {}")
    with pytest.raises(ConfigError, match="for the text encoder t5xxl, or not"):
        flux.encode_with(vectors(flux), "super{}")
    with pytest.raises(ConfigError, match="text encoder t5xxl, or not the whole"):
        hidream.encode_with(vectors(hidream), "an " + "old " * 130 + "{}")


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


def test_a_family_without_one_of_its_encoders(pack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """SD3 is often loaded without T5."""
    from comfy.text_encoders import sd3_clip

    made = sd3_clip.sd3_clip(t5=False)
    alone = replace(FAMILIES["sd3"], target=lambda: (sd3_clip.SD3Tokenizer, made))
    monkeypatch.setitem(FAMILIES, "sd3", alone)
    encoder = encoder_of(*of("sd3"))
    assert list(encoder.widths()) == ["l", "g"]
    assert encoder.encode_with(vectors(encoder), "a {}").tokens.shape == (2, 77, 4096)
    assert encoder.remarks()[1].startswith("nothing is learned in t5xxl")


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


class Agreeing:
    """A judge that sees everything everywhere."""

    def score(self, images: Tensor, concept: str) -> Tensor:
        return torch.ones(len(images))


def test_the_node_learns_and_exports_in_a_language_model(
    pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a MODEL that matches flows, with prompts of unequal length all the way."""
    from tverase_pack.nodes.host.app import progress

    from host_support import attack_steps as world
    from host_support.host_steps import node, same, weights

    shown: list[str] = []
    monkeypatch.setattr(progress, "show_text", shown.append)
    model, clip = of("z-image")
    before, text_before = weights(model), copied_weights(clip)
    texts = encoder_of(model, clip).encode(["a cat", ""])
    latents = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(5))
    pictures = concept_set(
        "cat", latents, texts.pick(torch.tensor([0, 0])), texts.pick(torch.tensor([1]))
    )
    given = {"count": 2, "steps": 2, "batch": 2, "checks": 1, "restarts": 0, **world.DRAWING}
    cls = pack.NODE_CLASS_MAPPINGS["TVEraseDiverseInversion"]
    found, _, report = node(
        pack,
        "DiverseInversion",
        model=model,
        clip=clip,
        vae=world.FlatVAE(),
        judge=Agreeing(),
        **world.defaults(cls, concept_set=pictures, **given),
    )
    assert {tower: value.shape for tower, value in found.vectors.items()} == {
        "qwen3_4b": (2, 1, 32)
    }
    assert "learned in the text encoders qwen3_4b (32 wide)" in report
    assert "text encoder: 0.0 GiB as it is held, about 0.0 GiB for gradients" in shown[0]
    (prompts,) = node(pack, "ExportEmbeddings", inversion_set=found, name="qwen")
    assert prompts.splitlines() == ["a embedding:qwen-00", "a embedding:qwen-01"]
    assert same(weights(model), before)
    assert same_weights(clip, text_before)
