"""The text encoder for inversion and the inversion nodes, on the real host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from tverase_core.errors import (
    BaseMismatchError,
    ConfigError,
    InversionError,
    JudgeError,
    TextWidthError,
)

pytestmark = pytest.mark.training
SHAPE = (4, 8, 8)
SMALL = {
    "count": 2,
    "steps": 4,
    "learning_rate": 1e-2,
    "batch": 2,
    "checks": 2,
    "restarts": 0,
    "diversity": 0.5,
}

LONG = {"count": 1, "batch": 1, "checks": 2, "steps": 56}


class Stop(Exception):
    """Stands for the Cancel button."""


def encoder_of(model: Any, clip: Any) -> Any:
    from tverase_pack.nodes.host.text.encoder import HostTextEncoder

    return HostTextEncoder(model, clip)


@pytest.fixture
def fresh_model(pack: Any, make_tiny_model: Any) -> Any:
    return make_tiny_model(storage=torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_encodes_what_clip_text_encode_does(fresh_model: Any, tiny_clip: Any, dtype: Any) -> None:
    from host_support import tiny_host

    clip = tiny_clip if dtype == torch.float32 else tiny_host.build_clip(dtype)
    long = "a very long tale of a cat " * 20
    for text in ("", "a cat", "a (cat:1.3) in ink style", long):
        with torch.inference_mode():
            wanted = clip.encode_from_tokens(clip.tokenize(text), return_pooled=True)[0]
        assert torch.equal(encoder_of(fresh_model, clip).encode([text]).tokens, wanted)


def test_clip_skip_is_kept(fresh_model: Any, tiny_clip: Any) -> None:
    skipping = tiny_clip.clone()
    skipping.clip_layer(-2)
    with torch.inference_mode():
        wanted = skipping.encode_from_tokens(skipping.tokenize("a cat"), return_pooled=True)[0]
    made = encoder_of(fresh_model, skipping)
    assert torch.equal(made.encode(["a cat"]).tokens, wanted)
    words = {t: v[None] for t, v in made.word_vectors("cat").items()}
    assert torch.allclose(made.encode_with(words, "a {}").tokens, wanted, atol=1e-6)


@pytest.mark.parametrize("word", ["cat", "grand piano"])
def test_a_words_own_vectors_in_its_place_change_nothing(
    fresh_model: Any, tiny_clip: Any, word: str
) -> None:
    encoder = encoder_of(fresh_model, tiny_clip)
    words = {t: torch.stack([v, v]) for t, v in encoder.word_vectors(word).items()}
    assert words["l"].shape[1] == len(word.split())
    made = encoder.encode_with(words, "a {} on a mat")
    assert torch.allclose(made.tokens, encoder.encode([f"a {word} on a mat"] * 2).tokens, atol=1e-6)


def test_each_vector_has_a_template_of_its_own(fresh_model: Any, tiny_clip: Any) -> None:
    encoder = encoder_of(fresh_model, tiny_clip)
    vectors, told = torch.randn(3, 1, 32), ["a {}", "a {} on a mat", "a {}"]
    made = encoder.encode_with({"l": vectors}, told).tokens
    alone = [
        encoder.encode_with({"l": v[None]}, t).tokens for v, t in zip(vectors, told, strict=True)
    ]
    assert torch.allclose(made, torch.cat(alone), atol=1e-6)


def test_gradients_reach_the_vectors_and_nothing_else(fresh_model: Any, tiny_clip: Any) -> None:
    before = {k: v.clone() for k, v in tiny_clip.cond_stage_model.state_dict().items()}
    encoder = encoder_of(fresh_model, tiny_clip)
    vectors = torch.randn(3, 2, 32, requires_grad=True)
    encoder.encode_with({"l": vectors}, "a {}").tokens.square().sum().backward()
    assert vectors.grad is not None
    assert bool((vectors.grad.flatten(1).norm(dim=1) > 0).all())
    after = tiny_clip.cond_stage_model.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert all(p.grad is None for p in tiny_clip.cond_stage_model.parameters())
    with torch.inference_mode():  # the shared layers still add in place, as the host wrote them
        tiny_clip.encode_from_tokens(tiny_clip.tokenize("a cat"))


def test_a_lora_on_the_clip_is_part_of_the_encoder(fresh_model: Any, tiny_clip: Any) -> None:
    patched = tiny_clip.clone()
    key = "clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight"
    shape = patched.cond_stage_model.state_dict()[key].shape
    assert patched.add_patches(
        {key: ("diff", (torch.linspace(-1, 1, shape.numel()).view(shape),))}, 1.0
    )
    with torch.inference_mode():
        wanted = patched.encode_from_tokens(patched.tokenize("a cat"), return_pooled=True)[0]
        plain = tiny_clip.encode_from_tokens(tiny_clip.tokenize("a cat"), return_pooled=True)[0]
    made = encoder_of(fresh_model, patched).encode(["a cat"]).tokens
    assert torch.allclose(made, wanted, atol=1e-5)
    assert not torch.allclose(made, plain, atol=1e-5)


def test_two_towers(pack: Any) -> None:
    from host_support.attack_steps import tiny_sdxl

    model, clip = tiny_sdxl()
    encoder = encoder_of(model, clip)
    assert dict(encoder.widths()) == {"g": 64, "l": 32}
    plain = encoder.encode(["a cat on a mat"])
    with torch.inference_mode():
        tokens, pooled = clip.encode_from_tokens(clip.tokenize("a cat on a mat"), True)
    assert torch.equal(plain.tokens, tokens)
    assert torch.equal(plain.extra["pooled_output"], pooled)
    vectors = {t: v[None].requires_grad_() for t, v in encoder.word_vectors("cat").items()}
    made = encoder.encode_with(vectors, "a {} on a mat")
    assert torch.allclose(made.tokens, plain.tokens, atol=1e-6)
    assert torch.allclose(made.extra["pooled_output"], plain.extra["pooled_output"], atol=1e-6)
    made.extra["pooled_output"].square().sum().backward(retain_graph=True)
    assert float(vectors["g"].grad.norm()) > 0  # through the pooled output
    made.tokens.square().sum().backward()
    assert all(float(v.grad.norm()) > 0 for v in vectors.values())


def test_templates_that_do_not_fit(fresh_model: Any, tiny_clip: Any) -> None:
    encoder = encoder_of(fresh_model, tiny_clip)
    with pytest.raises(ConfigError, match="the text encoder takes 75"):
        encoder.encode_with({"l": torch.randn(1, 80, 32)}, "a {}")
    with pytest.raises(TextWidthError, match="widths"):
        encoder.encode_with({"l": torch.randn(1, 1, 16)}, "a {}")


@pytest.mark.parametrize("template", ["a photo of ({}:1.3)", "a {} (old)"])
def test_a_template_with_brackets(
    pack: Any, fresh_model: Any, tiny_clip: Any, template: str
) -> None:
    """In a prompt they would be weights, which an embedding is not learned under."""
    with pytest.raises(ConfigError, match=r"template: .*no brackets.*weights"):
        run(pack, fresh_model, tiny_clip, template=template)


def run(pack: Any, model: Any, clip: Any, judge: Any = None, **changes: Any) -> Any:
    from host_support import attack_steps as world
    from host_support.host_steps import node, pictures

    cls = pack.NODE_CLASS_MAPPINGS["TVEraseDiverseInversion"]
    given = {"concept_set": pictures(), **SMALL, **world.DRAWING, **changes}
    return node(
        pack,
        "DiverseInversion",
        model=model,
        clip=clip,
        vae=world.FlatVAE(),
        judge=judge or world.MeanJudge(),
        **world.defaults(cls, **given),
    )


def test_the_node_repeats_itself_and_leaves_the_model_alone(
    pack: Any, fresh_model: Any, tiny_clip: Any
) -> None:
    from host_support.host_steps import same, weights

    before = weights(fresh_model)
    first, grid, text = run(pack, fresh_model, tiny_clip)
    again = run(pack, fresh_model, tiny_clip)[0]
    assert len(first) == 2
    assert torch.equal(first.vectors["l"], again.vectors["l"])
    assert torch.equal(first.losses, again.losses)
    assert first.hit_rates is not None
    assert grid.shape[0] == 1
    assert "2 embeddings" in text
    assert same(weights(fresh_model), before)
    assert not any(getattr(m, "weight_function", None) for m in fresh_model.model.modules())


def test_a_judge_that_cannot_see(pack: Any, fresh_model: Any, tiny_clip: Any) -> None:
    from host_support.attack_steps import BlindJudge, MeanJudge

    with pytest.raises(JudgeError, match="cannot see the concept"):
        run(pack, fresh_model, tiny_clip, BlindJudge())

    class Narrow(MeanJudge):
        def concepts(self) -> tuple[str, ...]:
            return ("horse",)

    with pytest.raises(JudgeError, match="knows horse"):
        run(pack, fresh_model, tiny_clip, Narrow())


def test_triggers_that_fail_the_check(pack: Any, fresh_model: Any, tiny_clip: Any) -> None:
    from host_support.attack_steps import MeanJudge

    class OnlyFirst(MeanJudge):
        """Sees the plain prompt's pictures and none after."""

        asked = 0

        def score(self, images: torch.Tensor, concept: str) -> torch.Tensor:
            self.asked += 1
            return torch.full((len(images),), float(self.asked == 1))

    with pytest.raises(InversionError, match="None of 2 inversions"):
        run(pack, fresh_model, tiny_clip, OnlyFirst(), restarts=1)


def test_one_embedding_and_near_to_far(pack: Any, fresh_model: Any, tiny_clip: Any) -> None:
    found, _, text = run(pack, fresh_model, tiny_clip, count=1)
    assert found.max_cosine() is None
    assert "cannot be split" in text
    spread = run(pack, fresh_model, tiny_clip, spread="near to far", count=3)[0]
    word = encoder_of(fresh_model, tiny_clip).word_vectors("cat")["l"].mean(0)
    near = functional.cosine_similarity(spread.vectors["l"].mean(1), word[None])
    bands = ((-1, -0.8), (-0.8, -0.6), (-0.6, -0.4))
    for value, (low, high) in zip(near.tolist(), bands, strict=True):
        assert low - 1e-4 <= value <= high + 1e-4
    held = run(pack, fresh_model, tiny_clip, count=3, word_low=0.3, word_high=0.5)[0]
    near = functional.cosine_similarity(held.vectors["l"].mean(1), word[None])
    assert 0.3 - 1e-4 <= float(near.min()) <= float(near.max()) <= 0.5 + 1e-4


@pytest.mark.parametrize("resumable", [False, True])
def test_stopped_and_resumed(
    pack: Any, fresh_model: Any, tiny_clip: Any, resumable: bool, monkeypatch: Any, comfy_host: Any
) -> None:
    from host_support.host_steps import same, weights

    before, progress = weights(fresh_model), pack_progress()
    folder = Path(comfy_host.folder_paths.get_output_directory()) / "inversion_sets" / "unfinished"
    whole = run(pack, fresh_model, tiny_clip, **LONG)[0]
    calls = []

    def stop_at_54(self: Any, done: int, total: int, message: str = "") -> None:
        calls.append(done)
        if "step 54" in message:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(progress, "__call__", stop_at_54)
        with pytest.raises(Stop):
            run(pack, fresh_model, tiny_clip, **LONG, resumable=resumable)
    assert same(weights(fresh_model), before)
    assert len(list(folder.glob("*"))) == int(resumable) if folder.exists() else not resumable
    calls.clear()
    with monkeypatch.context() as patch:
        patch.setattr(progress, "__call__", lambda self, d, t, m="": calls.append(m))
        resumed = run(pack, fresh_model, tiny_clip, **LONG, resumable=resumable)[0]
    assert ("step 1 of 56" in calls) != resumable
    assert torch.equal(resumed.vectors["l"], whole.vectors["l"])
    assert not list(folder.glob("*"))


def lora_of(seed: int) -> dict[str, Any]:
    """As a LoRA loader makes it: an object of the host where it has them, else a tuple."""
    import comfy.lora

    source = torch.Generator().manual_seed(seed)
    held = {
        "x.lora_up.weight": torch.randn(64, 2, generator=source),
        "x.lora_down.weight": torch.randn(2, 64, generator=source),
        "x.alpha": torch.tensor(2.0),
    }
    key = "diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q.weight"
    return comfy.lora.load_lora(held, {"x": key})


@pytest.mark.injections
def test_a_resumable_job_belongs_to_one_edited_model(pack: Any, make_tiny_model: Any) -> None:
    """Equal edits made anew are the same job; other values, strengths or ways are not."""
    from tverase_pack.nodes.host.model.exact import exact_clone
    from tverase_pack.nodes.host.model.patching import patched_clone
    from tverase_pack.nodes.host.model.weights import model_shapes
    from tverase_pack.nodes.host.training.identity import Description

    def plan(seed: int, scale: float = -1.0) -> dict[float, dict[str, torch.Tensor]]:
        source = torch.Generator().manual_seed(seed)
        shapes = model_shapes(make_tiny_model())
        keys = [key for key in shapes if key.endswith("to_k.weight")]
        return {scale: {k: torch.randn(shapes[k], generator=source) for k in keys}}

    def lora(seed: int) -> Any:
        clone = make_tiny_model()
        assert clone.add_patches(lora_of(seed), 0.5)
        return clone

    makers = {
        "base": make_tiny_model,
        "other base": lambda: make_tiny_model(seed=1),
        "patch": lambda: patched_clone(make_tiny_model(), plan(1)),
        "patch of another vector": lambda: patched_clone(make_tiny_model(), plan(2)),
        "patch at another strength": lambda: patched_clone(make_tiny_model(), plan(1, -0.5)),
        "exact": lambda: exact_clone(make_tiny_model(), plan(1)),
        "exact with another vector": lambda: exact_clone(make_tiny_model(), plan(2)),
        "exact at another strength": lambda: exact_clone(make_tiny_model(), plan(1, -0.5)),
        "exact twice": lambda: exact_clone(exact_clone(make_tiny_model(), plan(1)), plan(2)),
        "exact on a patch": lambda: exact_clone(patched_clone(make_tiny_model(), plan(2)), plan(1)),
        "LoRA": lambda: lora(1),
        "another LoRA": lambda: lora(2),
    }
    found = {name: Description(make()).digest() for name, make in makers.items()}
    assert len(set(found.values())) == len(found)
    assert found == {name: Description(make()).digest() for name, make in makers.items()}


def pack_progress() -> Any:
    from tverase_pack.nodes.host.app.progress import NodeProgress

    return NodeProgress


def test_saved_loaded_exported(
    pack: Any, fresh_model: Any, tiny_clip: Any, comfy_host: Any
) -> None:
    from host_support import tiny_host
    from host_support.host_steps import node

    found = run(pack, fresh_model, tiny_clip, vectors=2)[0]
    (file,) = node(pack, "SaveInversionSet", inversion_set=found, filename_prefix="set/cat")
    listed = pack.NODE_CLASS_MAPPINGS["TVEraseLoadInversionSet"].INPUT_TYPES()
    name = file.removeprefix("inversion_sets/")
    assert (Path(comfy_host.folder_paths.get_output_directory()) / file).exists()
    loader = pack.NODE_CLASS_MAPPINGS["TVEraseLoadInversionSet"]
    assert loader.VALIDATE_INPUTS("no such") is not True
    assert loader.VALIDATE_INPUTS(name) is True
    assert name in listed["required"]["file"][0]
    loaded = node(pack, "LoadInversionSet", file=name)[0]
    assert torch.equal(loaded.vectors["l"], found.vectors["l"])
    (prompts,) = node(pack, "ExportEmbeddings", inversion_set=found, name="cat")
    folder = comfy_host.folder_paths.get_folder_paths("embeddings")[0]
    clip = tiny_host.build_clip()
    clip.tokenizer.clip_l.embedding_directory = [folder]
    contexts = found.contexts(encoder_of(fresh_model, tiny_clip))
    for k, prompt in enumerate(prompts.splitlines()):
        assert prompt == f"a embedding:cat-{k:02d}"
        with torch.inference_mode():
            stock = clip.encode_from_tokens(clip.tokenize(prompt), return_pooled=True)[0]
        assert torch.allclose(stock[0], contexts.tokens[k], atol=1e-5)
    with pytest.raises(ConfigError, match="letters, digits"):
        node(pack, "ExportEmbeddings", inversion_set=found, name="my cat")


def test_a_set_from_another_text_encoder(pack: Any, fresh_model: Any, tiny_clip: Any) -> None:
    from host_support import attack_steps, tiny_host

    found = run(pack, fresh_model, tiny_clip)[0]
    other = tiny_host.build_clip(seed=9)
    with pytest.raises(BaseMismatchError, match="another text encoder"):
        found.contexts(encoder_of(fresh_model, other))
    with pytest.raises(TextWidthError, match="widths"):
        found.contexts(encoder_of(*attack_steps.tiny_sdxl()))


def test_the_fast_way_computes_the_same(pack: Any, fresh_model: Any, monkeypatch: Any) -> None:
    """bfloat16 has 8 bits, so predictions and gradients agree to a few hundredths."""
    from tverase_pack.nodes.host.model import denoiser as host_denoiser
    from tverase_pack.nodes.host.model import numerics

    from tverase_core.ports import Context

    monkeypatch.setattr(numerics, "has_fast_bfloat16", lambda device: True)
    source = torch.Generator().manual_seed(4)
    x, noise = torch.randn(2, 4, 8, 8, generator=source), torch.randn(2, 4, 8, 8, generator=source)
    found = []
    for fast in (False, True):
        tokens = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(5))
        tokens.requires_grad_()
        with host_denoiser.open_denoiser(fresh_model, autocast=fast) as denoiser:
            made = denoiser.predict(x, torch.tensor([10, 600]), Context(tokens))
            ((made - noise) ** 2).mean().backward()
        assert made.dtype == torch.float32
        assert tokens.grad is not None
        found.append((made.detach(), tokens.grad))
    for exact, fast_one in zip(*found, strict=True):
        assert float((exact - fast_one).norm() / exact.norm()) < 0.08
        assert not torch.equal(exact, fast_one)


def attacked(pack: Any, model: Any, how: str) -> Any:
    """The MODEL with an edit that leaves no cat in any picture: bright ones only."""
    from host_support import attack_steps as world
    from host_support.host_steps import node

    vector = world.bright_vector(model, 100.0)
    if how == "wrapper":
        edited = model.clone()
        edited.add_weight_wrapper(world.BIAS, lambda bias: bias - 100)
        return edited
    given = {"model": model, "task_vector": vector, "strength": 1.0, "other_weights": "refuse"}
    return node(pack, "ApplyNegatedTV", **given, precision=how)[0]


@pytest.mark.parametrize("how", ["patch", "runtime_exact", "wrapper"])
def test_an_erasure_that_holds_is_a_result(
    pack: Any, fresh_model: Any, tiny_clip: Any, how: str
) -> None:
    from host_support.attack_steps import BlindJudge
    from host_support.host_steps import same, weights

    before = weights(fresh_model)
    edited = attacked(pack, fresh_model, how)
    found, grid, text = run(pack, edited, tiny_clip)
    assert found.hit_rates is not None
    assert found.hit_rates.tolist() == [0, 0]
    assert "0 embeddings that draw" in text
    assert "0 of 2 bring 'cat' back on the edited MODEL; the judge saw it in 0% of all" in text
    assert grid.ndim == 4
    with pytest.raises(JudgeError, match="that the base model drew"):
        run(pack, edited, tiny_clip, BlindJudge())
    assert same(weights(fresh_model), before)


def test_an_edit_that_erases_nothing_lets_all_through(
    pack: Any, fresh_model: Any, tiny_clip: Any
) -> None:
    from host_support.attack_steps import BIAS

    edited = fresh_model.clone()
    edited.add_patches({BIAS: ("diff", (torch.full((4,), 1e-6),))}, 1.0)
    found, _, text = run(pack, edited, tiny_clip)
    assert found.valid.all()
    assert "2 of 2 bring 'cat' back" in text
