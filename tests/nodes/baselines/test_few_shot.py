"""Few-shot Unlearning and its vectors on the real host: private copy, patches, stock Load LoRA."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tverase_core.errors import BaseMismatchError, ConfigError, KeyMismatchError, NonFiniteError
from tverase_core.files.task_vector_file import load_task_vector, save_task_vector
from tverase_core.vector.task_vector import TaskVector

pytestmark = pytest.mark.training
FC1 = "text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight"
CONV = "diffusion_model.out.2.bias"
SMALL = {
    "concept": "",
    "sentences": "object",
    "captions": "a {}\na (small:1.2) {}",
    "epochs": 2,
    "batch_size": 2,
    "learning_rate": 1e-3,
    "seed": 1,
    "pictures": 4,
    "every_epoch": False,
    "width": 64,
    "height": 64,
}


@pytest.fixture(scope="module")
def model(pack: Any) -> Any:
    from host_support import tiny_host

    return tiny_host.build_model(storage=torch.float32)


@pytest.fixture(scope="module")
def vector(pack: Any, model: Any, tiny_clip: Any) -> TaskVector:
    return learned(model, tiny_clip)


def learned(model: Any, clip: Any, **changes: Any) -> TaskVector:
    """What the node makes, run as the host runs it."""
    from tverase_pack.nodes.baselines.few_shot import FewShotNode

    from host_support.host_steps import pictures

    given = {"model": model, "clip": clip, "concept_set": pictures(), **SMALL, **changes}
    with torch.inference_mode():
        made = FewShotNode().erase(**given)
    assert made["ui"]["images"]
    last, by_epoch = made["result"]
    assert by_epoch[-1] is last
    return last


def applied(clip: Any, vector: TaskVector, strength: float = 1.0, other: str = "refuse") -> Any:
    """(CLIP, what the node says)."""
    from tverase_pack.nodes.baselines.few_shot import ApplyNegatedTVToCLIP

    with torch.inference_mode():
        made = ApplyNegatedTVToCLIP().apply(clip, vector, strength, other)
    return (made["result"][0], made["ui"]["text"][0]) if isinstance(made, dict) else (made[0], "")


def encoded(clip: Any, text: str = "a cat on a mat") -> torch.Tensor:
    """As CLIP Text Encode does it."""
    with torch.inference_mode():
        return clip.encode_from_tokens(clip.tokenize(text), return_pooled=True)[0].clone()


def held(clip: Any) -> dict[str, Any]:
    """Every weight of the module by name, and what else stands in it."""
    weights = clip.cond_stage_model.state_dict()
    layers = clip.cond_stage_model.named_modules()
    extra = {f"{n}.own": (sorted(vars(m)), sorted(m._parameters)) for n, m in layers}
    return {**{name: weight.clone() for name, weight in weights.items()}, **extra}


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(v, second[k]) if torch.is_tensor(v) else v == second[k]
        for k, v in first.items()
    )


def encoder_of(model: Any, clip: Any) -> Any:
    from tverase_pack.nodes.host.text.edits import EditableHostTextEncoder

    return EditableHostTextEncoder(model, clip)


def trial(encoder: Any, per_weight: float = 0.02) -> dict[str, torch.Tensor]:
    """Noise on every weight that the method trains."""
    from tverase_core.erasers.few_shot import few_shot_keys

    source, shapes = torch.Generator().manual_seed(4), encoder.weight_shapes()
    return {
        key: per_weight * torch.randn(shapes[key], generator=source)
        for key in few_shot_keys(shapes)
    }


def test_trial_deltas_act_as_the_patches_do(model: Any, tiny_clip: Any) -> None:
    from tverase_pack.nodes.host.text.edits import edited_clip

    encoder, plain = encoder_of(model, tiny_clip), encoded(tiny_clip)
    deltas, text = trial(encoder), ["a cat on a mat"]
    words = {t: v[None] for t, v in encoder.word_vectors("cat").items()}
    erased = encoded(edited_clip(tiny_clip, {-0.5: deltas}, "patch")[0])
    assert not torch.allclose(erased, plain, atol=1e-3)
    assert torch.equal(encoder.encode(text).tokens, plain)
    with encoder.attached(deltas) as attachment:
        attachment.scale = -0.5
        for made in (encoder.encode(text), encoder.encode_with(words, "a {} on a mat")):
            torch.testing.assert_close(made.tokens.detach(), erased, rtol=1e-5, atol=1e-5)
        with encoder.attached(deltas) as second:
            second.scale = 0.5
            made = encoder.encode(text).tokens.detach()
            torch.testing.assert_close(made, plain, rtol=1e-5, atol=1e-5)
        attachment.scale = 0.0
        assert torch.equal(encoder.encode(text).tokens.detach(), plain)
    assert torch.equal(encoder.encode(text).tokens, plain)
    with pytest.raises(KeyMismatchError, match="clip_l"):
        encoder.attached({"text_encoders.clip_l.strange": torch.ones(1)}).__enter__()


def test_gradients_reach_the_deltas_where_they_are_wanted(model: Any, tiny_clip: Any) -> None:
    encoder = encoder_of(model, tiny_clip)
    deltas = {key: delta.requires_grad_() for key, delta in trial(encoder).items()}
    long = "a very long tale of a (cat:1.3) " * 20
    with encoder.attached(deltas):
        encoder.encode(["a cat", long]).tokens.square().sum().backward()
        with torch.no_grad():
            assert not encoder.encode(["a cat"]).tokens.requires_grad
        with torch.inference_mode():
            assert not encoder.encode(["a cat"]).tokens.requires_grad
    assert all(float(delta.grad.abs().max()) > 0 for delta in deltas.values())
    assert not any(parameter.requires_grad for parameter in encoder._copy.parameters())


def test_the_clip_is_left_alone_and_the_erased_one_differs(
    model: Any, tiny_clip: Any, vector: TaskVector
) -> None:
    from host_support.host_steps import same as same_weights
    from host_support.host_steps import weights

    text, before, base = encoded(tiny_clip), held(tiny_clip), weights(model)
    again = learned(model, tiny_clip)
    assert again.same_deltas(vector)
    parts = {key.rsplit(".", 2)[1] for key in vector.deltas}
    assert {"fc1", "fc2", "v_proj", "out_proj"} <= parts
    assert vector.provenance.concepts == ("cat",)
    assert vector.base.architecture == "text-encoder-l"
    erased, note = applied(tiny_clip, vector)
    assert not note
    assert not torch.allclose(encoded(erased), text, atol=1e-4)
    assert torch.equal(encoded(tiny_clip), text)  # the host changes over by itself
    assert not tiny_clip.patcher.patches
    assert same(held(tiny_clip), before)
    assert same_weights(weights(model), base)
    assert not any(getattr(m, "weight_function", None) for m in model.model.modules())


def test_cancel_and_error_leave_no_trace(
    pack: Any, model: Any, tiny_clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tverase_pack.nodes.host.app import progress

    from host_support.host_steps import pictures, weights
    from host_support.host_steps import same as same_weights

    class StopError(Exception):
        """Stands for the Cancel button."""

    def stop(self: Any, done: int, total: int, message: str = "") -> None:
        if done == 2:
            raise StopError

    text, before, base = encoded(tiny_clip), held(tiny_clip), weights(model)
    with pytest.raises(NonFiniteError, match=r"step [1-4] of 4"):
        learned(model, tiny_clip, learning_rate=1e30)
    monkeypatch.setattr(progress.NodeProgress, "__call__", stop)
    with pytest.raises(StopError):
        learned(model, tiny_clip, concept_set=pictures(), pictures=0)
    assert same(held(tiny_clip), before)
    assert same_weights(weights(model), base)
    assert torch.equal(encoded(tiny_clip), text)
    assert not any(getattr(m, "weight_function", None) for m in model.model.modules())


def test_strength_zero_is_the_same_object(tiny_clip: Any, vector: TaskVector) -> None:
    assert applied(tiny_clip, vector, 0.0)[0] is tiny_clip


def test_it_uses_the_first_pictures_only(
    model: Any, tiny_clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tverase_pack.tverase_core.erasers import few_shot as module

    from host_support.host_steps import pictures

    given: list[torch.Tensor] = []
    real: Callable[..., Any] = module.few_shot
    monkeypatch.setattr(
        module, "few_shot", lambda *words, **more: given.append(words[2]) or real(*words, **more)
    )
    for count in (2, 0):
        learned(model, tiny_clip, pictures=count, epochs=1)
    assert torch.equal(given[0], pictures().latents[:2])
    assert torch.equal(given[1], pictures().latents)


def test_a_vector_of_each_epoch(pack: Any, model: Any, tiny_clip: Any) -> None:
    from tverase_pack.nodes.baselines.few_shot import FewShotNode

    from host_support.host_steps import pictures

    given = {"model": model, "clip": tiny_clip, "concept_set": pictures(), **SMALL}
    with torch.inference_mode():
        made = FewShotNode().erase(**{**given, "epochs": 3, "every_epoch": True})
    vectors = made["result"][1]
    assert [vector.provenance.recipe["epochs"] for vector in vectors] == [1, 2, 3]
    assert vectors[1].same_deltas(learned(model, tiny_clip, epochs=2))


def test_a_name_alone_will_do(pack: Any, model: Any, tiny_clip: Any) -> None:
    """Without pictures noise stands in for them; the name must be given, and says what is told."""
    with pytest.raises(ConfigError, match="no name"):
        learned(model, tiny_clip, concept_set=None)
    given = {"concept_set": None, "concept": "fox", "captions": "", "sentences": "style"}
    made = learned(model, tiny_clip, **given)
    recipe = made.provenance.recipe
    assert recipe["pictures"] == 0
    assert len(recipe["captions"]) == 19
    assert recipe["captions"][1] == "in the style of fox"
    other = learned(model, tiny_clip, **given, width=128)
    assert not other.same_deltas(made)


def test_the_file_erases_with_the_stock_load_lora_too(
    model: Any, tiny_clip: Any, vector: TaskVector, tmp_path: Path
) -> None:
    import comfy.sd
    import comfy.utils

    path = tmp_path / "cat.tv.safetensors"
    save_task_vector(path, vector)
    loaded = load_task_vector(path)
    assert loaded.same_deltas(vector)
    assert loaded.base == vector.base
    erased = encoded(applied(tiny_clip, loaded, 0.8)[0])
    tensors = comfy.utils.load_torch_file(str(path), safe_load=True)
    with torch.inference_mode():
        stock = comfy.sd.load_lora_for_models(model, tiny_clip, tensors, 0.0, -0.8)[1]
    assert set(stock.patcher.patches) == {k.removeprefix("text_encoders.") for k in vector.deltas}
    assert torch.equal(encoded(stock), erased)


def test_other_clips_are_refused(pack: Any, model: Any, tiny_clip: Any, vector: TaskVector) -> None:
    from host_support import tiny_host
    from host_support.attack_steps import tiny_sdxl

    other = tiny_host.build_clip(seed=9)
    with pytest.raises(BaseMismatchError, match="different weights"):
        applied(other, vector)
    assert applied(other, vector, other="allow")[0] is not other
    half = tiny_host.build_clip(torch.float16)
    assert applied(half, vector)[0] is not half  # the same one, stored otherwise
    with pytest.raises(BaseMismatchError, match="different architecture"):
        applied(tiny_sdxl()[1], vector, other="allow")
    patched = applied(tiny_clip, vector)[0]
    with pytest.raises(BaseMismatchError, match="already carries patches on"):
        learned(model, patched)


def test_vectors_of_a_diffusion_model(tiny_clip: Any, vector: TaskVector, model: Any) -> None:
    from tverase_pack.nodes.host.model.weights import fingerprint

    whole = {**vector.deltas, CONV: torch.ones(4)}
    with pytest.raises(BaseMismatchError, match="Use Apply Negated TV, which takes the MODEL"):
        applied(tiny_clip, replace(vector, deltas={CONV: torch.ones(4)}))
    mixed = TaskVector(whole, fingerprint(model))
    erased, note = applied(tiny_clip, mixed)
    assert f"Only the {len(vector)} text-encoder weights of the vector's {len(whole)}" in note
    assert "only the names and shapes" in note
    assert torch.equal(encoded(erased), encoded(applied(tiny_clip, vector)[0]))
    with pytest.raises(KeyMismatchError):
        applied(tiny_clip, replace(mixed, deltas={f"{FC1[:-7]}.strange": torch.ones(2)}))


def test_two_towers(pack: Any) -> None:
    """SDXL reads both towers before their last layer, and the pooled output after g's."""
    from host_support.attack_steps import tiny_sdxl
    from host_support.host_steps import pictures
    from tverase_core.concept_set import concept_set
    from tverase_core.ports import Context

    model, clip = tiny_sdxl()
    rows = Context(torch.randn(1, 7, 96), {"pooled_output": torch.randn(1, 64)})
    shown = concept_set("cat", pictures().latents, rows)
    made = learned(model, clip, concept_set=shown)
    assert made.base.architecture == "text-encoder-g-l"
    layers = {(key.split(".")[1], key.split(".layers.")[1][:5]) for key in made.deltas}
    assert {("clip_l", "0.mlp"), ("clip_g", "2.mlp"), ("clip_g", "2.sel")} <= layers
    assert ("clip_l", "2.mlp") not in layers
    erased = applied(clip, made)[0]
    assert not torch.allclose(encoded(erased), encoded(clip), atol=1e-4)


def test_a_narrow_number_format_is_warned_of(model: Any, vector: TaskVector) -> None:
    from host_support import tiny_host

    narrow = tiny_host.build_clip(torch.bfloat16)
    small = replace(vector, deltas={key: 0.01 * d for key, d in vector.deltas.items()})
    assert "Warning: rounding" in applied(narrow, small)[1]


def test_captions_without_a_place_for_the_name(model: Any, tiny_clip: Any) -> None:
    with pytest.raises(ConfigError, match=r"'a cat' has no \{\}"):
        learned(model, tiny_clip, captions="a cat\na {}")
