"""Quantised models as bases: every format that this ComfyUI loads, and GGUF by a stand-in.

ComfyUI 0.3.75, which the tests bring, has the old scaled fp8 and the first of the new layers. The
other formats are met by the same tests on a newer one (COMFYUI_PATH), seen to pass on 0.33.0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from host_support.edit_samples import compare_changes
from tverase_core.errors import BaseMismatchError
from tverase_core.model.fingerprint import BaseFingerprint, key_digest
from tverase_core.vector.task_vector import TaskVector

pytestmark = pytest.mark.injections

FORMATS = (
    "scaled_fp8",
    "float8_e4m3fn",
    "float8_e5m2",
    "mxfp8",
    "int8_tensorwise",
    "int8_convrot",
    "convrot_w4a4",
    "nvfp4",
    "asym_w4a8_int8",
    "gguf",
)
Build = Callable[..., Any]


@pytest.fixture(scope="module")
def weights(comfy_host: Any) -> dict[str, Tensor]:
    """Of a plain model in half precision, by the names of a file."""
    from host_support import quantised, tiny_host

    return quantised.plain_weights(tiny_host.build_model(storage=torch.float16))


@pytest.fixture(params=FORMATS)
def build(request: pytest.FixtureRequest, weights: dict[str, Tensor]) -> Build:
    """`build(weights, pick)`: the MODEL in one format."""
    from host_support import quantised

    if request.param not in quantised.known_formats():
        pytest.skip(f"this ComfyUI has no {request.param}")

    def made(given: dict[str, Tensor] = weights, **options: Any) -> Any:
        return quantised.quantised_model(request.param, given, **options)

    made.format = request.param
    return made


def vector_for(model: Any, share: float = 0.01, seed: int = 7) -> TaskVector:
    """Noise of `share` of each weight's size."""
    from tverase_pack.nodes.host.model.weights import base_weight, fingerprint, model_shapes

    source = torch.Generator().manual_seed(seed)
    deltas = {
        key: share
        * base_weight(model, key).float().std(correction=0)
        * torch.randn(tuple(shape), generator=source)
        for key, shape in model_shapes(model).items()
    }
    return TaskVector(deltas, fingerprint(model))


def used(model: Any) -> dict[str, Tensor]:
    """What the loaded layers compute with, float64."""
    import comfy.model_management
    import comfy.ops

    found = {}
    with torch.inference_mode():
        comfy.model_management.load_models_gpu([model], force_full_load=True)
        for path, module in model.model.named_modules():
            if hasattr(module, "weight_function") and getattr(module, "weight", None) is not None:
                given = torch.empty(0)
                own = getattr(module, "cast_bias_weight", None)
                pair = own(given) if own else comfy.ops.cast_bias_weight(module, given)
                scale = getattr(module, "scale_weight", torch.ones(()))
                for name, value, factor in zip(
                    ("weight", "bias"), pair, (scale, torch.ones(())), strict=True
                ):
                    if value is not None:
                        whole = value.dequantize() if hasattr(value, "_qdata") else value
                        if hasattr(value, "whole"):  # two parts
                            whole = value.main().double() + value.delta().double()
                        found[f"{path}.{name}"] = whole.double() * factor.double()
    return found


def test_a_vector_of_the_plain_file_fits(
    pack: Any, make_tiny_model: Build, build: Build, weights: dict[str, Tensor]
) -> None:
    """Names, shapes and blocks are those of the plain model, whatever the weights are packed as."""
    from tverase_pack.nodes.host.model.weights import fingerprint, layout_of, model_shapes

    plain, model = make_tiny_model(storage=torch.float16), build()
    assert dict(model_shapes(model)) == dict(model_shapes(plain))
    assert layout_of(model).blocks() == layout_of(plain).blocks()
    known, found = fingerprint(plain), fingerprint(model)
    assert known.compare(found) == "same_when_rounded"
    assert found.compare(known) == "same_when_rounded"
    assert found.compare(fingerprint(build())) == "same"
    other = fingerprint(make_tiny_model(storage=torch.float16, seed=1))
    assert other.compare(found) == "different_weights"


def test_a_fine_tune_of_the_base_is_another_model(
    pack: Any, build: Build, make_tiny_model: Build, weights: dict[str, Tensor]
) -> None:
    """Its packed weights may hide in the rounding; those that are not packed tell."""
    from tverase_pack.nodes.host.model.weights import fingerprint

    source = torch.Generator().manual_seed(2)
    moved = {
        key: (w.float() * (1 + 0.02 * torch.randn(w.shape, generator=source))).half()
        for key, w in weights.items()
    }
    found = fingerprint(build(moved))
    if "+float8_e4m3fn" in str(found.dtype):
        pytest.skip("this ComfyUI keeps all weights of the old format in 8 bits")
    known = fingerprint(make_tiny_model(storage=torch.float16))
    assert known.compare(found) == "different_weights"


def test_half_of_the_layers_quantised(pack: Any, build: Build, weights: dict[str, Tensor]) -> None:
    from tverase_pack.nodes.host.model.weights import base_weight
    from tverase_pack.nodes.host.storage.view import view_of

    model = build(pick=lambda key: "output_blocks" in key)
    packed = view_of(model).packed
    if view_of(model).scales:
        pytest.skip("where scales lie beside the weights all matrices have 8 bits or none")
    assert packed
    assert all("output_blocks" in key for key in packed)
    for key, weight in weights.items():
        read = base_weight(model, f"diffusion_model.{key}").double()
        exact = f"diffusion_model.{key}" not in packed
        far = (read - weight.double()).norm() / weight.double().norm().clamp_min(1e-9)
        assert far == 0 if exact else 0 < far < 0.3, key


def test_patches_arrive_as_the_host_computes_them(pack: Any, build: Build) -> None:
    """Apply Negated TV is stock Load LoRA at -1 with the same differences, to the bit."""
    from host_support import host_steps as steps
    from host_support.vector_steps import erase

    model = build()
    vector = vector_for(model, 0.1)
    erased = erase(pack, model, vector, 1.0, precision="patch")
    stock = model.clone()
    stock.add_patches({key: ("diff", (d,)) for key, d in vector.deltas.items()}, -1.0)
    drawn = steps.output(model)
    assert torch.equal(steps.output(erased), steps.output(stock))
    assert not torch.equal(steps.output(erased), drawn)
    assert torch.equal(steps.output(model), drawn)


def test_the_told_rounding_is_the_hosts(pack: Any, build: Build) -> None:
    from tverase_pack.nodes.host.model.patching import measure_rounding, patched_clone

    model = build()
    vector = vector_for(model)
    told = measure_rounding(model, {-1.0: vector.deltas})
    before, after = used(model), used(patched_clone(model, {-1.0: vector.deltas}))
    meant = {key: -delta for key, delta in vector.deltas.items()}
    real = compare_changes(meant, {key: after[key] - before[key] for key in meant})
    assert told.lost == pytest.approx(real.lost, rel=0.2, abs=0.01)
    assert told.cosine == pytest.approx(real.cosine, abs=0.05)


def test_a_vector_is_extracted_from_two_quantised_models(
    pack: Any, build: Build, weights: dict[str, Tensor]
) -> None:
    from host_support.host_steps import node

    tuned = {key: (1.5 * w.float()).half() for key, w in weights.items()}
    made = node(pack, "ExtractTaskVector", base=build(), tuned=build(tuned), concept="cat")[0]
    for key, weight in weights.items():
        half = 0.5 * weight.float()
        got = made.deltas.get(f"diffusion_model.{key}", torch.zeros_like(half))
        assert (got - half).norm() <= 0.5 * half.norm() + 1e-6, key


def test_and_from_patches_on_one(pack: Any, build: Build) -> None:
    from tverase_pack.nodes.host.model.patching import patched_clone

    from host_support.host_steps import node

    base = build()
    vector = vector_for(base)
    tuned = patched_clone(base, {1.0: vector.deltas})
    assert node(pack, "ExtractTaskVector", base=base, tuned=tuned, concept="cat")[0].same_deltas(
        vector
    )


def test_reading_sees_no_patches_of_a_loaded_model(pack: Any, build: Build) -> None:
    from tverase_pack.nodes.host.model.patching import patched_clone
    from tverase_pack.nodes.host.model.weights import base_weight, model_shapes

    from host_support import host_steps as steps

    model = build()
    held = {key: base_weight(model, key).clone() for key in model_shapes(model)}
    clone = patched_clone(model, {-1.0: vector_for(model, 0.5).deltas})
    steps.output(clone)  # now the module is loaded with them
    assert all(torch.equal(base_weight(model, key), value) for key, value in held.items())


def test_a_vector_of_before_counted_the_scales(pack: Any, weights: dict[str, Tensor]) -> None:
    """Up to format 1.2 `scale_weight` was a weight of an old scaled model like any other."""
    from tverase_pack.nodes.host.model.edits import checked_deltas
    from tverase_pack.nodes.host.storage.view import view_of

    from host_support import quantised

    model = quantised.quantised_model("scaled_fp8", weights)
    view = view_of(model)
    if not view.scales:
        pytest.skip("this ComfyUI keeps scales inside the weights")
    vector = vector_for(model)
    key = next(iter(view.scales))
    digest = key_digest({**view.shapes, **view.scales})
    former = replace(
        vector,
        deltas={**vector.deltas, key: torch.ones(())},
        base=BaseFingerprint(vector.base.architecture, digest, "0" * 64, "float32"),
    )
    (group,) = checked_deltas(model, former, None, allow_other_weights=False).values()
    assert group.keys() == vector.deltas.keys()


def test_an_unknown_format_is_named(pack: Any, make_tiny_model: Build) -> None:
    from host_support.vector_steps import erase

    model = make_tiny_model()
    vector = vector_for(model)
    layer = model.model.diffusion_model.middle_block[1].transformer_blocks[0].ff.net[2]
    del layer.weight
    layer.qweight = torch.nn.Parameter(torch.zeros(8, 8, dtype=torch.int8), requires_grad=False)
    fresh = type(model)(model.model, model.load_device, model.offload_device)
    from tverase_pack.nodes.host.storage import view as reading

    reading._views.pop(model.model)
    with pytest.raises(BaseMismatchError, match=r"qweight is Parameter of torch.int8.*nvfp4"):
        erase(pack, fresh, vector, 1.0)


def exact(pack: Any, model: Any, vector: TaskVector, strength: float = 1.0) -> Any:
    from host_support.vector_steps import erase

    return erase(pack, model, vector, strength, precision="runtime_exact")


def thin_vector(model: Any, rank: int = 2, seed: int = 7) -> TaskVector:
    """A product of two thin matrices on each matrix and convolution, noise on the rest."""
    full, source = vector_for(model, seed=seed), torch.Generator().manual_seed(seed)
    deltas = {}
    for key, delta in full.deltas.items():
        if delta.ndim > 1:
            up = torch.randn(len(delta), rank, generator=source)
            down = torch.randn(rank, delta[0].numel(), generator=source)
            delta = (0.01 * up @ down / delta[0].numel() ** 0.5).reshape(delta.shape)
        deltas[key] = delta
    return TaskVector(deltas, full.base)


@pytest.mark.parametrize("made", [vector_for, thin_vector])
def test_at_use_the_edit_arrives_whole(pack: Any, build: Build, made: Build) -> None:
    """Where stored patches arrive with a cosine of 0.06 to 0.7."""
    model = build()
    vector = made(model)
    before, after = used(model), used(exact(pack, model, vector, 1.5))
    meant = {key: -1.5 * delta for key, delta in vector.deltas.items()}
    loss = compare_changes(meant, {key: after[key] - before[key] for key in meant})
    assert loss.cosine > 0.9999
    assert loss.norm_ratio == pytest.approx(1, abs=1e-3)


@torch.inference_mode()  # as in a node: the host's layers cannot be moved in and out of it
def test_at_use_nothing_stays_behind(pack: Any, build: Build) -> None:
    """Two branches take turns, with whole and with partial loads and a LoRA before and behind."""
    import comfy.model_management
    from tverase_pack.nodes.host.model.patching import patched_clone
    from tverase_pack.nodes.host.model.weights import base_weight, model_shapes

    from host_support import host_steps as steps

    model = build()
    held = {key: base_weight(model, key).clone() for key in model_shapes(model)}
    lora = vector_for(model, 0.2, seed=3).deltas
    vector, other = vector_for(model, 0.2), thin_vector(model, seed=4)
    drawn = steps.output(model)
    branches = [
        exact(pack, model, vector),
        exact(pack, exact(pack, model, vector), other),
        exact(pack, patched_clone(model, {1.0: lora}), vector),
        patched_clone(exact(pack, model, vector), {1.0: lora}),
    ]
    whole = [steps.output(branch) for branch in branches]
    torch.testing.assert_close(whole[2], whole[3], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(whole[0], whole[1], atol=1e-3)
    for branch, expected in zip(branches[:2], whole, strict=False):
        assert torch.equal(steps.output(model), drawn)
        with torch.inference_mode():
            comfy.model_management.unload_all_models()
            branch.partially_load(torch.device("cpu"), extra_memory=branch.model_size() // 2)
            part = steps.applied(branch, *steps.inputs(), torch.full((2,), 1.5))
            branch.detach()
        torch.testing.assert_close(part, expected, rtol=1e-3, atol=1e-3)
        assert torch.equal(steps.output(branch), expected)
    # The host cannot load a LoRA on its first new layers in part, without this pack neither.
    for branch, expected in zip(branches, whole, strict=True):
        assert torch.equal(steps.output(branch), expected)
    comfy.model_management.unload_all_models()
    assert torch.equal(steps.output(model), drawn)
    assert all(torch.equal(base_weight(model, key), value) for key, value in held.items())


def test_auto_takes_the_way_that_loses_less(pack: Any, build: Build) -> None:
    """A small edit acts at use and the node says why; advice names no way that refuses."""
    from tverase_pack.nodes.host.model.exact import exact_edits

    model = build()
    vector = vector_for(model, 0.002)
    cls = pack.NODE_CLASS_MAPPINGS["TVEraseApplyNegatedTV"]
    told = {}
    for precision in ("auto", "patch"):
        with torch.inference_mode():
            made = cls().apply(model, vector, 1.0, "refuse", precision=precision)
        told[precision] = made["ui"]["text"][0] if isinstance(made, dict) else ""
        edited = made["result"][0] if isinstance(made, dict) else made[0]
        at_use = precision == "auto" and build.format != "gguf"
        assert bool(exact_edits(edited)) == at_use
    if build.format == "gguf":  # patches are added in float32 here, and lose nothing
        assert "auto: patch, rounding" in told["auto"]
        return
    assert "auto: runtime_exact, because rounding" in told["auto"]
    assert "Set precision to runtime_exact" in told["patch"]


def test_small_edits_in_half_precision_clip(pack: Any, comfy_host: Any) -> None:
    from tverase_pack.nodes.host.text.edits import clip_fingerprint, clip_shapes

    from host_support import tiny_host
    from host_support.host_steps import node

    clip = tiny_host.build_clip(torch.bfloat16)
    source = torch.Generator().manual_seed(3)
    deltas = {
        key: 1e-4 * torch.randn(tuple(shape), generator=source)
        for key, shape in clip_shapes(clip).items()
        if "encoder.layers" in key and key.endswith("weight")
    }
    vector = TaskVector(deltas, clip_fingerprint(clip))
    given = {"clip": clip, "task_vector": vector, "strength": 1.0, "other_weights": "refuse"}
    drawn = clip.encode_from_tokens(clip.tokenize("a cat"))
    exact_one = node(pack, "ApplyToCLIP", **given, precision="auto")[0]
    wide = tiny_host.build_clip(torch.bfloat16)
    moved = exact_one.encode_from_tokens(exact_one.tokenize("a cat"))
    assert exact_one.patcher.injections
    assert not torch.equal(moved, drawn)
    assert torch.equal(clip.encode_from_tokens(clip.tokenize("a cat")), drawn)
    assert torch.equal(wide.encode_from_tokens(wide.tokenize("a cat")), drawn)


@pytest.mark.parametrize("compiled_first", [True, False])
@torch.inference_mode()
def test_torch_compile_before_or_behind(pack: Any, build: Build, compiled_first: bool) -> None:
    """As the stock TorchCompileModel node wraps a MODEL, but for the slow part of compiling."""
    import comfy.model_management
    from comfy.patcher_extension import WrappersMP
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    from host_support import host_steps as steps

    if build.format not in ("scaled_fp8", "int8_tensorwise"):
        pytest.skip("two formats stand for all: what is compiled is the layers' own code")
    model = build()
    vector = vector_for(model, 0.2)
    wanted = steps.output(exact(pack, model, vector))
    given = model.clone() if compiled_first else exact(pack, model, vector).clone()
    set_torch_compile_wrapper(given, backend="eager")
    made = exact(pack, given, vector) if compiled_first else given
    comfy.model_management.load_models_gpu([made], force_full_load=True)
    wrappers = {WrappersMP.APPLY_MODEL: {"": made.get_all_wrappers(WrappersMP.APPLY_MODEL)}}
    assert wrappers[WrappersMP.APPLY_MODEL][""]
    x, tokens = steps.inputs()
    options = {"wrappers": wrappers}
    sigma = torch.full((2,), 1.5)
    got = made.model.apply_model(x, sigma, c_crossattn=tokens, transformer_options=options)
    torch.testing.assert_close(got.float(), wanted, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_a_saved_edit_keeps_its_format(pack: Any, build: Build, comfy_host: Any) -> None:
    """By the stock Save Model: what is loaded again are the patched weights, packed as before."""
    import comfy.sd
    from comfy_extras.nodes_model_merging import ModelSave
    from tverase_pack.nodes.host.model.patching import patched_clone
    from tverase_pack.nodes.host.storage.view import view_of

    from host_support import quantised

    if build.format == "gguf":
        pytest.skip("ComfyUI-GGUF's models cannot be saved, edited or not")
    if build.format == quantised.HEADER and len(quantised.known_formats()) < 4:
        pytest.skip("this ComfyUI cannot save its first new layers, edited or not")
    model = build()
    edited = patched_clone(model, {-1.0: vector_for(model, 0.2).deltas})
    ModelSave().save(edited, f"quantised/{build.format}")
    folder = comfy_host.base / "output" / "quantised"
    again = comfy.sd.load_diffusion_model(str(max(folder.glob(f"{build.format}_*"))))
    assert view_of(again).packed == view_of(model).packed
    before, after = used(edited), used(again)
    for key, weight in before.items():
        assert (after[key] - weight).norm() <= 1e-3 * weight.norm(), key


def test_a_host_too_old_for_the_format(pack: Any, weights: dict[str, Tensor]) -> None:
    """Such a one reads int8 numbers as weights, without a word; newer ones read them rightly."""
    import comfy.sd

    from host_support import quantised, tiny_host
    from host_support.vector_steps import erase

    if "int8_tensorwise" in quantised.known_formats():
        pytest.skip("this ComfyUI knows int8")
    tiny_host.register()
    vector = vector_for(tiny_host.build_model())
    file = {}
    for key, weight in weights.items():
        scale = weight.float().abs().amax() / 127
        file[key] = weight
        if weight.ndim == 2:
            file[key] = (weight.float() / scale).round().to(torch.int8)
            file[f"{key}_scale"] = scale
    with torch.inference_mode():
        model = comfy.sd.load_diffusion_model_state_dict(file)
    with pytest.raises(BaseMismatchError, match=r"whole numbers.*int8 and int8 ConvRot from 0\.27"):
        erase(pack, model, vector, 1.0)
