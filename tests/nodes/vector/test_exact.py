"""Runtime-exact Apply Negated TV on the real host: nothing rounded away, nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from host_support.edit_samples import compare_changes
from tverase_core.errors import BaseMismatchError
from tverase_core.model.block_mask import BlockMask
from tverase_core.vector.task_vector import TaskVector

pytestmark = pytest.mark.injections

Make = Callable[..., Any]
FP8 = torch.float8_e4m3fn


def vector_for(model: Any, share: float = 0.01, seed: int = 7) -> TaskVector:
    """Noise on every weight, `share` of what the host's initialisation has."""
    from tverase_pack.nodes.host.model.weights import fingerprint, model_shapes

    source = torch.Generator().manual_seed(seed)
    deltas = {
        key: share * torch.randn(tuple(shape), generator=source) / max(1, shape[1:].numel()) ** 0.5
        for key, shape in model_shapes(model).items()
    }
    return TaskVector(deltas, fingerprint(model))


def erase(pack: Any, model: Any, vector: TaskVector, strength: float, **more: Any) -> Any:
    from host_support.host_steps import node

    given = {"other_weights": "refuse", "precision": "runtime_exact", **more}
    return node(
        pack, "ApplyNegatedTV", model=model, task_vector=vector, strength=strength, **given
    )[0]


def used(model: Any, dtype: torch.dtype) -> dict[str, Tensor]:
    """What the loaded layers compute with, both parts of split weights, float64."""
    import comfy.model_management
    import comfy.ops

    from tverase_core.vector.split_weight import SplitWeight

    found = {}
    with torch.inference_mode():
        comfy.model_management.load_models_gpu([model], force_full_load=True)
        for path, module in model.model.named_modules():
            if hasattr(module, "weight_function") and getattr(module, "weight", None) is not None:
                sample = torch.empty(0, dtype=dtype)
                pair = comfy.ops.cast_bias_weight(module, sample)
                for name, value in zip(("weight", "bias"), pair, strict=True):
                    if isinstance(value, SplitWeight):
                        value = value.main().double() + value.delta().double()
                    if value is not None:
                        found[f"{path}.{name}"] = value.double().clone()
    return found


def stray_functions(model: Any) -> int:
    """Functions that any layer of the shared module would still call on its weights."""
    return sum(
        len(getattr(module, name, ()))
        for module in model.model.modules()
        for name in ("weight_function", "bias_function")
    )


@pytest.mark.parametrize("storage", [torch.float16, torch.bfloat16, FP8])
@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16, torch.float16])
def test_the_edit_arrives_whole(
    pack: Any, make_tiny_model: Make, storage: torch.dtype, compute: torch.dtype
) -> None:
    model = make_tiny_model(storage=storage, compute=compute)
    vector = vector_for(model)
    before, after = used(model, compute), used(erase(pack, model, vector, 1.5), compute)
    meant = {key: -1.5 * vector.deltas[key].double() for key in before}
    loss = compare_changes(meant, {key: after[key] - before[key] for key in before})
    assert loss.cosine > 0.9999
    assert loss.norm_ratio == pytest.approx(1, abs=0.003)
    assert before.keys() == vector.deltas.keys()


def test_the_model_draws_with_the_exact_edit(pack: Any, make_tiny_model: Make) -> None:
    """Against a float32 model that holds base + edit; patching bfloat16 weights does far worse."""
    from tverase_pack.nodes.host.model.patching import patched_clone

    from host_support import host_steps as steps

    stored = make_tiny_model(storage=torch.bfloat16, compute=torch.float32)
    wide = make_tiny_model(storage=torch.float32, compute=torch.float32)
    held = steps.weights(stored)
    exactly = {key: held[key].float() - weight for key, weight in steps.weights(wide).items()}
    base = patched_clone(wide, {1.0: exactly})
    vector = vector_for(stored)
    meant = steps.output(patched_clone(base, {-1.0: vector.deltas})) - steps.output(base)
    drawn = steps.output(stored)
    exact = steps.output(erase(pack, stored, vector, 1.0)) - drawn
    rounded = steps.output(erase(pack, stored, vector, 1.0, precision="patch")) - drawn
    assert (exact - meant).norm() < 1e-3 * meant.norm()
    assert (rounded - meant).norm() > 1e-2 * meant.norm()


@pytest.mark.parametrize("compute", [torch.bfloat16, torch.float16])
def test_it_draws_in_16_bits(pack: Any, make_tiny_model: Make, compute: torch.dtype) -> None:
    from host_support import host_steps as steps

    model = make_tiny_model(storage=FP8, compute=compute)
    vector, drawn = vector_for(model, 0.2), steps.output(model)
    wide = make_tiny_model(storage=FP8, compute=torch.float32)
    meant = steps.output(erase(pack, wide, vector, 1.0)) - steps.output(wide)
    got = steps.output(erase(pack, model, vector, 1.0)) - drawn
    assert (got - meant).norm() < 0.1 * meant.norm()


def test_nothing_stays_behind(pack: Any, make_tiny_model: Make) -> None:
    from host_support import host_steps as steps

    model = make_tiny_model(storage=torch.float16, compute=torch.float32)
    held, drawn = steps.weights(model), steps.output(model)
    exact = erase(pack, model, vector_for(model, 0.2), 1.0)
    assert stray_functions(model) == 0  # making it attaches nothing
    erased = steps.output(exact)
    assert not torch.equal(erased, drawn)
    assert torch.equal(steps.output(model), drawn)
    assert stray_functions(model) == 0
    assert torch.equal(steps.output(exact), erased)
    assert steps.same(steps.weights(model), held)


@pytest.mark.parametrize(("storage", "at_use"), [(torch.float32, 0), (FP8, 1)])
def test_auto_is_exact_where_storing_would_spoil_the_edit(
    pack: Any, make_tiny_model: Make, storage: torch.dtype, at_use: int
) -> None:
    from tverase_pack.nodes.host.model.exact import exact_edits

    model = make_tiny_model(storage=storage, compute=torch.float32)
    found = erase(pack, model, vector_for(model, 0.002), 1.0, precision="auto")
    assert len(exact_edits(found)) == at_use
    assert bool(found.patches) == (not at_use)


def test_put_on_and_taken_off_twice_is_once(pack: Any, make_tiny_model: Make) -> None:
    """Clones of a MODEL share its edit, and the host calls it for each."""
    model = make_tiny_model(storage=torch.float16, compute=torch.float32)
    exact = erase(pack, model, vector_for(model, 0.2), 1.0)
    (edit,) = (edit for listed in exact.injections.values() for edit in listed)
    edit.inject(exact)
    once = stray_functions(model)
    edit.inject(exact)
    assert stray_functions(model) == once > 0
    for _ in range(2):
        edit.eject(exact)
        assert stray_functions(model) == 0


def test_the_scale_of_a_scaled_layer_is_taken_off_the_edit(
    pack: Any, make_tiny_model: Make
) -> None:
    """The layer multiplies its stored weight, edit included, by 4 before use."""
    from tverase_pack.nodes.host.model.exact import exact_edits

    model, key = make_tiny_model(), "diffusion_model.out.2.weight"
    layer = model.model.get_submodule("diffusion_model.out.2")
    layer.scale_weight = torch.nn.Parameter(torch.tensor(4.0), requires_grad=False)
    (edit,) = exact_edits(erase(pack, model, vector_for(model), 1.5))
    assert edit[key][1] == -1.5 / 4
    assert edit["diffusion_model.out.2.bias"][1] == -1.5


def test_a_parameter_that_no_layer_owns_becomes_a_patch(pack: Any, make_tiny_model: Make) -> None:
    model, key = make_tiny_model(), "diffusion_model.positions"
    model.model.diffusion_model.positions = torch.nn.Parameter(torch.ones(3), requires_grad=False)
    exact = erase(pack, model, vector_for(model), 1.0)
    assert set(exact.patches) == {key}
    assert not model.patches


def test_unloading_and_reloading(pack: Any, make_tiny_model: Make) -> None:
    import comfy.model_management

    from host_support import host_steps as steps

    model = make_tiny_model(storage=torch.float16, compute=torch.float32)
    drawn, exact = steps.output(model), erase(pack, model, vector_for(model, 0.2), 1.0)
    erased = steps.output(exact)
    comfy.model_management.unload_all_models()
    assert stray_functions(model) == 0
    assert torch.equal(steps.output(exact), erased)
    comfy.model_management.unload_all_models()
    assert torch.equal(steps.output(model), drawn)


def partial_output(model: Any) -> Tensor:
    """What the model predicts when the host may load only half of it."""
    import comfy.model_management

    from host_support import host_steps as steps

    with torch.inference_mode():
        comfy.model_management.unload_all_models()
        model.partially_load(torch.device("cpu"), extra_memory=model.model_size() // 2)
        assert model.model.model_lowvram
        drawn = steps.applied(model, *steps.inputs(), torch.full((2,), 1.5))
        model.detach()
    return drawn


def test_partial_loads(pack: Any, make_tiny_model: Make) -> None:
    """Where stale weight wrappers would contaminate the base."""
    from host_support import host_steps as steps

    model = make_tiny_model(storage=torch.float16, compute=torch.float32)
    drawn, exact = steps.output(model), erase(pack, model, vector_for(model, 0.2), 1.0)
    erased = steps.output(exact)
    torch.testing.assert_close(partial_output(exact), erased)
    assert stray_functions(model) == 0
    torch.testing.assert_close(partial_output(model), drawn)
    torch.testing.assert_close(partial_output(exact), erased)
    assert torch.equal(steps.output(model), drawn)


def test_two_strengths_take_turns(pack: Any, make_tiny_model: Make) -> None:
    from host_support import host_steps as steps

    model = make_tiny_model(storage=torch.float16, compute=torch.float32)
    vector = vector_for(model, 0.2)
    weak, strong = erase(pack, model, vector, 0.3), erase(pack, model, vector, 1.0)
    first, second = steps.output(weak), steps.output(strong)
    assert not torch.equal(first, second)
    assert torch.equal(steps.output(weak), first)
    assert torch.equal(steps.output(strong), second)


def test_it_goes_with_patches_and_with_itself(pack: Any, make_tiny_model: Make) -> None:
    from host_support import host_steps as steps

    model = make_tiny_model(storage=torch.float32)
    one, two = vector_for(model, 0.2), vector_for(model, 0.2, seed=8)
    both = erase(pack, erase(pack, model, one, 1.0), two, 0.5)
    mixed = erase(pack, erase(pack, model, one, 1.0), two, 0.5, precision="patch")
    wanted = erase(pack, model, one * 1.0 + two * 0.5, 1.0, precision="patch")
    torch.testing.assert_close(steps.output(both), steps.output(wanted), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(steps.output(mixed), steps.output(wanted), rtol=1e-4, atol=1e-4)


def test_a_mask_limits_it(pack: Any, make_tiny_model: Make) -> None:
    model = make_tiny_model(storage=torch.float16, compute=torch.float32)
    mask = BlockMask({"IN01": 0.25}, other_blocks=0.0)
    vector = vector_for(model)
    before = used(model, torch.float32)
    after = used(erase(pack, model, vector, 2.0, block_mask=mask), torch.float32)
    for key, weight in before.items():
        factor = 0.5 if ".input_blocks.1." in key else 0.0
        meant = weight - factor * vector.deltas[key].double()
        torch.testing.assert_close(after[key], meant, rtol=1e-6, atol=1e-6)


def test_the_node_warns_when_rounding_spoils_the_edit(pack: Any, make_tiny_model: Make) -> None:
    cls = pack.NODE_CLASS_MAPPINGS["TVEraseApplyNegatedTV"]
    with torch.inference_mode():
        for storage, spoiled in ((torch.float32, False), (torch.bfloat16, True), (FP8, True)):
            model = make_tiny_model(storage=storage, compute=torch.float32)
            made = cls().apply(model, vector_for(model, 0.002), 1.0, "refuse")
            assert isinstance(made, dict) == spoiled
            if spoiled:
                assert "runtime_exact" in made["ui"]["text"][0]


def test_the_warning_is_what_the_host_does(pack: Any, make_tiny_model: Make) -> None:
    from tverase_pack.nodes.host.model.patching import measure_rounding, patched_clone

    from host_support import host_steps as steps

    model = make_tiny_model(storage=torch.bfloat16, compute=torch.float32)
    vector = vector_for(model, 0.005)
    told = measure_rounding(model, {-1.0: vector.deltas})
    before = steps.weights(model)
    after = steps.materialised(patched_clone(model, {-1.0: vector.deltas}))
    real = compare_changes(
        {key: -delta for key, delta in vector.deltas.items()},
        {key: after[key].double() - before[key].double() for key in before},
    )
    assert told.lost == pytest.approx(real.lost, rel=0.1)
    assert told.cosine == pytest.approx(real.cosine, abs=0.02)


def test_a_tied_weight_is_edited_under_all_its_names(pack: Any, make_tiny_model: Make) -> None:
    from host_support import host_steps as steps

    model = make_tiny_model(storage=torch.float32)
    with torch.inference_mode():
        norms = [
            module
            for path, module in model.model.named_modules()
            if path.endswith(".1.norm") and module.bias.shape == (32,)
        ]
        one, two = norms[:2]
        two.bias = one.bias
    names = [
        key
        for key, value in model.model_state_dict("diffusion_model.").items()
        if value.data_ptr() == one.bias.data_ptr()
    ]
    assert len(names) == 2
    full = vector_for(model)
    part = replace(full, deltas={names[0]: full.deltas[names[0]]})
    got = steps.materialised(erase(pack, model, part, 1.0, precision="patch"))
    assert torch.equal(got[names[0]], got[names[1]])
    assert torch.equal(got[names[0]], -full.deltas[names[0]])
    with pytest.raises(BaseMismatchError, match="one weight"):
        erase(pack, model, full, 1.0, precision="patch")
