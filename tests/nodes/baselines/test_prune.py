"""ConceptPrune on the real host: what it hears, what it makes, and what it leaves behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tverase_core.erasers.concept_prune import ColumnNorms, prunable_keys
from tverase_core.errors import BaseMismatchError, ConfigError, EmptyMaskError, NonFiniteError
from tverase_core.vector.task_vector import TaskVector

DRAWING = {
    "sampling_steps": 3,
    "cfg": 5.0,
    "width": 64,
    "height": 64,
    "sampler_name": "euler",
    "scheduler": "normal",
    "pictures_at_once": 4,
}
WIDGETS = {
    "concept": "cat",
    "prompts": "a cat\na photo of a cat",
    "contrast": "a dog\na photo of a dog",
    "ratio": 0.05,
    "steps_used": 2,
    "seed": 3,
    "pictures_per_prompt": 1,
    "layers": "ffn-2",
    **DRAWING,
}
LAYER = "diffusion_model.middle_block.1.transformer_blocks.0.ff.net.2.weight"


@pytest.fixture(scope="module")
def model(pack: Any) -> Any:
    from host_support import tiny_host

    return tiny_host.build_model(storage=torch.float32)


def erase(model: Any, clip: Any, **changes: Any) -> tuple[TaskVector, str]:
    """The node as the host runs it: (vector, text on the node)."""
    from tverase_pack.nodes.baselines.prune import ConceptPruneNode

    with torch.inference_mode():
        made = ConceptPruneNode().erase(model, clip, **{**WIDGETS, **changes})
    return made["result"][0], made["ui"]["text"][0]


def hooks(model: Any) -> int:
    """Forward pre-hooks on the network and all its layers, also those that take names."""
    modules = list(model.model.modules())
    tables = ("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_forward_hooks")
    return sum(len(getattr(module, table)) for module in modules for table in tables)


def settings(**changes: Any) -> Any:
    from tverase_pack.nodes.host.drawing.sampling import SamplerSettings

    made = {"steps": 4, "cfg": 5.0, "sampler": "euler", "scheduler": "karras", **changes}
    return SamplerSettings(height=64, width=64, batch=2, **made)


def contexts(model: Any, clip: Any) -> tuple[Any, Any]:
    """Three prompts, and the empty one."""
    from tverase_pack.nodes.host.model.conditioning import encode_texts, to_context

    with torch.inference_mode():
        texts = ("a cat", "a dog", "a tree"), ("",)
        context, empty = (to_context(model, encode_texts(clip, t)) for t in texts)
    return context, empty


def heard(model: Any, clip: Any, how: Any, steps: int, whole: bool = False) -> dict[int, list[Any]]:
    """What the middle layer is given, by step, while three pictures are drawn."""
    from tverase_pack.nodes.host.drawing import layer_inputs as listening
    from tverase_pack.nodes.host.drawing.sampling import sample_latents
    from tverase_pack.tverase_core.ports import quiet

    found: dict[int, list[Any]] = {}

    def hear(key: str, step: int, inputs: torch.Tensor) -> None:
        assert key == LAYER
        found.setdefault(step, []).append(inputs.clone())

    given = (model, *contexts(model, clip), [7, 8, 9], how)
    ladder = listening.noise_ladder(model, how)
    assert len(ladder) == how.steps + 1
    with torch.inference_mode(), listening.listening(model, [LAYER], ladder, hear):
        if whole:
            sample_latents(*given)
        else:
            listening.draw_first_steps(*given, steps, quiet)
    return found


def test_the_vector_and_what_is_left_behind(pack: Any, model: Any, tiny_clip: Any) -> None:
    from host_support.host_steps import same, weights

    before = weights(model)
    vector, text = erase(model, tiny_clip)
    assert hooks(model) == 0
    assert same(weights(model), before)
    assert vector.deltas
    assert all(key.endswith(".ff.net.2.weight") for key in vector.deltas)
    pruned = 0
    for key, delta in vector.deltas.items():
        mask = delta != 0
        assert torch.equal(delta, before[key] * mask)
        pruned += int(mask.sum())
    assert text.startswith(f"Pruned {pruned:,} weights: ")
    assert "M00: " in text
    assert vector.provenance.concepts == ("cat",)
    assert vector.provenance.recipe["prompts"][1] == ["a photo of a cat", "a photo of a dog"]


def test_equal_seeds_equal_bits(pack: Any, model: Any, tiny_clip: Any) -> None:
    first, second = erase(model, tiny_clip)[0], erase(model, tiny_clip)[0]
    assert first.same_deltas(second)
    assert not erase(model, tiny_clip, seed=4)[0].same_deltas(first)


def test_strength_1_is_the_pruned_model(pack: Any, model: Any, tiny_clip: Any) -> None:
    import comfy.model_management as management

    from host_support.host_steps import materialised, node, weights

    vector, _ = erase(model, tiny_clip, contrast="a dog")
    management.unload_all_models()  # drawing has loaded the base
    given = {"task_vector": vector, "other_weights": "refuse"}
    (edited,) = node(pack, "ApplyNegatedTV", model=model, strength=1.0, **given)
    now, before = materialised(edited), weights(model)
    for key, old in before.items():
        mask = vector.deltas[key] != 0 if key in vector.deltas else torch.zeros(old.shape).bool()
        assert torch.equal(now[key], torch.where(mask, 0, old))


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "uni_pc", "ddim", "euler_ancestral"])
def test_each_call_belongs_to_its_step(model: Any, tiny_clip: Any, sampler: str) -> None:
    # Two batches, of two pictures and of one, each once a step, with and without the prompt.
    found = heard(model, tiny_clip, settings(sampler=sampler), steps=3, whole=True)
    assert sorted(found) == [0, 1, 2, 3]
    rows = {step: sum(len(call) for call in calls) for step, calls in found.items()}
    assert set(rows.values()) == {6}


def test_calls_between_two_levels_belong_to_the_upper_one(model: Any, tiny_clip: Any) -> None:
    found = heard(model, tiny_clip, settings(sampler="dpm_2"), steps=2)
    assert {step: len(calls) for step, calls in found.items()} == {0: 4, 1: 4}
    # Heun's second call is at the next level, so the last one is of a step that was not asked for.
    found = heard(model, tiny_clip, settings(sampler="heun"), steps=2)
    assert {step: len(calls) for step, calls in found.items()} == {0: 2, 1: 4, 2: 2}


def test_the_first_steps_are_those_of_the_whole_picture(model: Any, tiny_clip: Any) -> None:
    whole = heard(model, tiny_clip, settings(sampler="dpmpp_2m"), steps=4, whole=True)
    first = heard(model, tiny_clip, settings(sampler="dpmpp_2m"), steps=2)
    assert set(first) == {0, 1}
    for step, calls in first.items():
        assert all(torch.equal(*pair) for pair in zip(calls, whole[step], strict=True))


def test_without_guidance_only_the_prompts_are_heard(model: Any, tiny_clip: Any) -> None:
    found = heard(model, tiny_clip, settings(cfg=1.0), steps=1)
    assert sum(len(call) for call in found[0]) == 3


def test_an_error_and_cancel_leave_no_hook(pack: Any, model: Any, tiny_clip: Any) -> None:
    import comfy.model_management as management

    from host_support import tiny_host
    from host_support.host_steps import same, weights

    before = weights(model)
    management.interrupt_current_processing()
    with pytest.raises(management.InterruptProcessingException):
        erase(model, tiny_clip)
    assert hooks(model) == 0
    assert same(weights(model), before)
    broken = tiny_host.build_model(storage=torch.float32)
    with torch.inference_mode():
        broken.model.diffusion_model.input_blocks[0][0].weight.fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="at sampler step 1"):
        erase(broken, tiny_clip)
    assert hooks(broken) == 0


def test_cancel_while_drawing(pack: Any, model: Any, tiny_clip: Any) -> None:
    """The button is pressed inside the second step, when the hooks are in place. Hosts of before
    late 2025 look for it in the node's progress only, newer ones in every layer."""
    import comfy.model_management as management
    from tverase_pack.nodes.host.app.progress import NodeProgress
    from tverase_pack.nodes.host.drawing import layer_inputs as listening

    steps = []

    def press(key: str, step: int, inputs: torch.Tensor) -> None:
        steps.append(step)
        assert hooks(model) > 0
        if step == 1:
            management.interrupt_current_processing()

    given = (model, *contexts(model, tiny_clip), [7, 8, 9], settings())
    ladder = listening.noise_ladder(model, settings())
    with (
        torch.inference_mode(),
        pytest.raises(management.InterruptProcessingException),
        listening.listening(model, [LAYER], ladder, press),
    ):
        listening.draw_first_steps(*given, 4, NodeProgress())
    assert steps == [0, 1]
    assert hooks(model) == 0


def test_sdxl_in_small(pack: Any) -> None:
    from tverase_pack.nodes.host.drawing import layer_inputs as listening
    from tverase_pack.nodes.host.model.weights import layout_of, model_shapes
    from tverase_pack.tverase_core.ports import Context, quiet

    from host_support import tiny_host

    sdxl, source = tiny_host.build_sdxl(), torch.Generator().manual_seed(0)
    tokens, pooled = (torch.randn(3, *s, generator=source) for s in ((77, 32), (1280,)))
    context = Context(tokens, {"pooled_output": pooled})
    keys, norms = prunable_keys(model_shapes(sdxl), layout_of(sdxl)), ColumnNorms()
    ladder = listening.noise_ladder(sdxl, settings())
    with torch.inference_mode(), listening.listening(sdxl, keys, ladder, norms.add):
        given = (sdxl, context, context.pick(torch.tensor([0])), [7, 8, 9], settings())
        listening.draw_first_steps(*given, 2, quiet)
    assert all(norms.steps(key) == [0, 1] for key in keys)
    assert hooks(sdxl) == 0


def test_refusals_come_before_any_drawing(pack: Any, model: Any, tiny_clip: Any) -> None:
    with pytest.raises(ConfigError, match="2 lines of contrasts for 3 prompts"):
        erase(model, tiny_clip, prompts="a cat\ncats\nthe cat")
    with pytest.raises(ConfigError, match="There is no prompt"):
        erase(model, tiny_clip, prompts=" \n")
    with pytest.raises(ConfigError, match="steps_used is 4, but the pictures have 3"):
        erase(model, tiny_clip, steps_used=4)
    patched = model.clone()
    patched.add_patches({LAYER: ("diff", (torch.ones(model.model.state_dict()[LAYER].shape),))})
    with pytest.raises(BaseMismatchError, match="already carries patches"):
        erase(patched, tiny_clip)


@pytest.mark.parametrize(
    ("scheduler", "steps", "early"), [("normal", 50, 10), ("normal", 20, 4), ("karras", 20, 5)]
)
def test_by_default_the_first_fifth_of_the_noise_chooses(
    pack: Any, model: Any, scheduler: str, steps: int, early: int
) -> None:
    """As many as the authors' 10 of 50 at even timesteps, and fewer where others go faster."""
    from tverase_pack.nodes.host.drawing.layer_inputs import early_steps, noise_ladder

    how = settings(steps=steps, scheduler=scheduler)
    assert early_steps(model, noise_ladder(model, how)) == early


def test_steps_and_layers_are_as_asked_for(pack: Any, model: Any, tiny_clip: Any) -> None:
    given = {"steps_used": 0, "sampling_steps": 10}
    vector, text = erase(model, tiny_clip, layers="attn-key", **given)
    assert all(key.endswith(".attn2.to_k.weight") for key in vector.deltas)
    assert "Chosen by the first 2 of 10 steps." in text
    assert vector.provenance.recipe["steps_used"] == 2


def test_equal_prompts_find_nothing(pack: Any, model: Any, tiny_clip: Any) -> None:
    with pytest.raises(EmptyMaskError, match="No weight works harder"):
        erase(model, tiny_clip, contrast=WIDGETS["prompts"])
    assert hooks(model) == 0


@pytest.mark.parametrize("order", ["first, second", "second, first", "combined", "exact, second"])
def test_two_prunings_leave_the_union_at_zero(
    pack: Any, model: Any, tiny_clip: Any, order: str
) -> None:
    """One after the other on one MODEL, in either order, or combined before."""
    import comfy.model_management as management

    from host_support.host_steps import materialised, node, weights

    first, second = (erase(model, tiny_clip, seed=seed)[0] for seed in (3, 4))
    management.unload_all_models()
    given = {"strength": 1.0, "other_weights": "refuse"}
    if order == "combined":
        factors = {"first_factor": 1.0, "second_factor": 1.0, "orthogonalise": False}
        both = node(pack, "CombineTaskVectors", first=first, second=second, **factors)[0]
        edited = node(pack, "ApplyNegatedTV", model=model, task_vector=both, **given)[0]
    else:
        edited = model
        for name in order.split(", "):
            vector = second if name == "second" else first
            precision = "runtime_exact" if name == "exact" else "patch"
            more = {"task_vector": vector, "precision": precision, **given}
            edited = node(pack, "ApplyNegatedTV", model=edited, **more)[0]
    now, before, shared = materialised(edited), weights(model), 0
    for key, old in before.items():
        ours, theirs = (
            vector.deltas[key] != 0 if key in vector.deltas else torch.zeros(old.shape).bool()
            for vector in (first, second)
        )
        shared += int((ours & theirs).sum())
        if order == "exact, second":  # only the second is in the weights, and takes what is left
            assert torch.equal(now[key], torch.where(theirs & ~ours, 0, old))
        else:
            assert torch.equal(now[key], torch.where(ours | theirs, 0, old))
    assert shared > 0


def test_pruning_after_another_edit_takes_that_away_too(
    pack: Any, model: Any, tiny_clip: Any
) -> None:
    import comfy.model_management as management

    from host_support.host_steps import materialised, node

    vector, _ = erase(model, tiny_clip)
    management.unload_all_models()
    styled = model.clone()
    styled.add_patches({LAYER: ("diff", (torch.full_like(vector.deltas[LAYER], 0.5),))}, 1.0)
    given = {"task_vector": vector, "strength": 1.0, "other_weights": "refuse"}
    edited = node(pack, "ApplyNegatedTV", model=styled, **given)[0]
    now, before = materialised(edited)[LAYER], materialised(styled)[LAYER]
    assert torch.equal(now, torch.where(vector.deltas[LAYER] != 0, 0, before))
