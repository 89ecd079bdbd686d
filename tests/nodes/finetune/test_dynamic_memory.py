"""ComfyUI's dynamic memory management (0.12 and newer, on NVIDIA), imitated on a CPU.

There weights lie in the checkpoint file until they are used, modules carry pointers into memory of
the host's own, and patches never enter the modules. None of it runs on a CPU, so these tests do to
the host's classes what it does there.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tverase_core.errors import BaseMismatchError
from tverase_core.model.fingerprint import check_base
from tverase_core.ports import Context

Make = Callable[..., Any]
SHAPE = (2, 4, 8, 8)


@pytest.fixture
def late_weights(comfy_host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linear layers that are born without weights and wait for a checkpoint."""
    import comfy.ops

    def born(self: Any, ins: int, outs: int, bias: bool = True, device: Any = None, dtype: Any = 0):
        nn.Module.__init__(self)
        self.in_features, self.out_features = ins, outs
        self.weight = self.bias = None
        self.comfy_need_lazy_init_bias = bias

    monkeypatch.setattr(comfy.ops.disable_weight_init.Linear, "__init__", born, raising=False)


@pytest.mark.training
def test_the_dry_run_needs_no_checkpoint(
    pack: Any, make_tiny_model: Make, request: pytest.FixtureRequest
) -> None:
    import comfy.ops
    from tverase_pack.nodes.host.training.activations import activations

    model, text = make_tiny_model(), Context(torch.zeros(1, 77, 32))
    wanted = activations(model, SHAPE, lambda key: True, text)
    request.getfixturevalue("late_weights")
    assert comfy.ops.disable_weight_init.Linear(2, 3).weight is None
    assert activations(model, SHAPE, lambda key: True, text) == wanted
    assert wanted.whole > 0


class Pointer:
    """Memory that the host frees once: a second owner would free it again."""

    def __deepcopy__(self, memo: Any) -> Any:
        raise AssertionError("a pointer of the host was copied")


def as_loaded_dynamically(text_model: nn.Module) -> None:
    """Attributes as ComfyUI 0.38 sets them; 0.19 has `_pin` and `_pin_hostbuf`."""
    import ctypes

    device = torch.device("cuda", 0)
    pins = {"weights": (Pointer(), [], [-1], [0], [0], {}), "active": True, "failed": False}
    text_model.dynamic_vbars = {device: Pointer()}
    text_model.dynamic_pins = {device: pins}
    text_model.dynamic_patchers = {1234}
    for number, module in enumerate(text_model.modules()):
        if not hasattr(module, "comfy_cast_weights"):
            continue
        module.comfy_cast_weights = True
        module._pin_state, module._pin_hostbuf = pins, Pointer()
        module._v = (text_model.dynamic_vbars[device], 4096 * number, 4096)
        module._v_signature = (ctypes.c_uint32 * 2)() if number % 2 else None
        module._v_weight = torch.full((2,), float("nan"))
        module._pins = {"weights": {"pin": Pointer(), "balancer_entry": [0, 1, module]}}
        module._prefetch = {"signature": None, "xfer_dest": Pointer()}
        module.weight_lowvram_function = Pointer()
        module.bias_lowvram_function = None


@pytest.mark.training
def test_a_dynamic_clip_is_copied_without_the_hosts_memory(
    pack: Any, make_tiny_model: Make, tiny_clip: Any
) -> None:
    from tverase_pack.nodes.host.text.copies import HOSTS_OWN, private_copy
    from tverase_pack.nodes.host.text.encoder import HostTextEncoder

    from host_support import tiny_host

    clip, model = tiny_host.build_clip(), make_tiny_model(storage=torch.float32)
    text_model = clip.cond_stage_model
    as_loaded_dynamically(text_model)
    with pytest.raises(AssertionError, match="pointer"):
        copy.deepcopy(text_model)
    held = {key: value.clone() for key, value in text_model.state_dict().items()}
    objects = {name: dict(vars(module)) for name, module in text_model.named_modules()}
    memory = {p.data_ptr() for p in text_model.parameters()}
    for dtype in (None, torch.float32):
        with torch.inference_mode(False):
            made = private_copy(clip, dtype).model
        assert not [n for module in made.modules() for n in vars(module) if HOSTS_OWN.fullmatch(n)]
        assert not any(p.is_inference() for p in made.parameters())
        assert {p.data_ptr() in memory for p in made.parameters()} == {dtype is None}
    encoder, plain = (HostTextEncoder(model, c) for c in (clip, tiny_clip))
    assert torch.equal(encoder.encode(["a (cat:1.2)"]).tokens, plain.encode(["a (cat:1.2)"]).tokens)
    vectors = torch.randn(1, 2, 32, requires_grad=True)
    encoder.encode_with({"l": vectors}, "a {}").tokens.square().sum().backward()
    assert float(vectors.grad.norm()) > 0
    for name, module in text_model.named_modules():
        assert vars(module).keys() == objects[name].keys()
        assert all(vars(module)[key] is value for key, value in objects[name].items())
    assert all(torch.equal(held[k], v) for k, v in text_model.state_dict().items())


@pytest.mark.training
def test_a_text_weight_that_the_file_lacked_is_zero(pack: Any) -> None:
    """The host leaves it on the meta device until it is used."""
    from tverase_pack.nodes.host.text.copies import private_copy

    from host_support import tiny_host

    clip = tiny_host.build_clip()
    projection = clip.cond_stage_model.clip_l.transformer.text_projection
    projection.weight = nn.Parameter(projection.weight.to("meta"), requires_grad=False)
    with torch.inference_mode(False):
        made = private_copy(clip).model.clip_l.transformer.text_projection.weight
    assert made.shape == projection.weight.shape
    assert not made.any()


def loaded(values: dict[str, Tensor], storage: torch.dtype, assigned: bool) -> Any:
    """A MODEL of these weights. assigned: the file's tensors themselves, as dynamic loading has
    them; else cast to `storage`, which the host names as the model's dtype either way."""
    from host_support import tiny_host

    model = tiny_host.build_model(storage=storage, compute=torch.float32)
    with torch.inference_mode():
        own = {key: value.clone() for key, value in values.items()}
        model.model.diffusion_model.load_state_dict(own, assign=assigned)
    assert model.model_dtype() == storage
    return model


@pytest.fixture
def file_weights(make_tiny_model: Make) -> dict[str, Tensor]:
    made = make_tiny_model(storage=torch.float32, seed=3).model.diffusion_model.state_dict()
    return {key: value.clone() for key, value in made.items()}


@pytest.mark.parametrize("where", ["every weight", "one weight"])
def test_another_storage_of_the_same_model_is_no_other_model(
    pack: Any, file_weights: dict[str, Tensor], where: str
) -> None:
    """A vector of before the host's update, and one of after it, on either host."""
    from tverase_pack.nodes.host.model.weights import fingerprint

    if where == "one weight":  # all but the output's norm are half precision in the file
        file_weights = {k: v if k == "out.0.weight" else v.half() for k, v in file_weights.items()}
        file_weights["out.0.weight"] += 2**-15
    before = fingerprint(loaded(file_weights, torch.float16, assigned=False))
    after = fingerprint(loaded(file_weights, torch.float16, assigned=True))
    assert before.sample_sha256 != after.sample_sha256
    assert check_base(before, after) == check_base(after, before) == "same_when_rounded"
    again = fingerprint(loaded(file_weights, torch.float16, assigned=True))
    assert check_base(after, again) == "same"
    moved = {key: value + 2**-6 for key, value in file_weights.items()}
    for assigned, known in ((False, before), (True, after)):
        other = fingerprint(loaded(moved, torch.float16, assigned))
        with pytest.raises(BaseMismatchError, match="different weights"):
            check_base(known, other)


@pytest.mark.parametrize(
    "storage", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn]
)
def test_a_usual_load_is_labelled_as_ever(
    pack: Any, make_tiny_model: Make, storage: torch.dtype
) -> None:
    """Files saved before name the dtype that the host names; both must keep being equal."""
    from tverase_pack.nodes.host.model.weights import fingerprint

    model = make_tiny_model(storage=storage)
    assert fingerprint(model).dtype == str(model.model_dtype()).removeprefix("torch.")


def dynamic(model: Any, loader: Any) -> Any:
    """A patcher that keeps its patches out of the modules; `loader` makes its model anew."""
    from comfy.model_patcher import ModelPatcher

    class Dynamic(ModelPatcher):
        cached_patcher_init: Any = None

        def is_dynamic(self) -> bool:
            return True

        def clone(self, disable_dynamic: bool = False) -> Any:
            if not disable_dynamic:
                made = super().clone()
                made.cached_patcher_init = self.cached_patcher_init
                return made
            if self.cached_patcher_init is None:  # the host's sentence
                raise RuntimeError("Cannot create non-dynamic delegate: no cached_patcher_init.")
            fresh = self.cached_patcher_init[0](*self.cached_patcher_init[1], disable_dynamic=True)
            made = ModelPatcher(fresh.model, self.load_device, self.offload_device)
            made.patches = {key: entries[:] for key, entries in self.patches.items()}
            made.patches_uuid = self.patches_uuid
            return made

        def partially_load(
            self, device: Any, extra_memory: int = 0, force_patch_weights: bool = False
        ) -> None:
            assert not force_patch_weights

    made = Dynamic(model.model, model.load_device, model.offload_device)
    made.cached_patcher_init = (loader, ()) if loader else None
    if type(made.clone()) is not Dynamic:  # seen in 2024
        pytest.skip("this ComfyUI's clones are no longer what they are cloned from")
    return made


def export(pack: Any, comfy_host: Any, model: Any) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    from host_support.host_steps import node

    place = node(pack, "ExportUNet", model=model, filename_prefix="dynamic/unet")[0]
    return load_file(Path(comfy_host.folder_paths.get_output_directory()) / place)


def test_export_writes_the_edit_from_a_dynamic_model(
    pack: Any, comfy_host: Any, file_weights: dict[str, Tensor]
) -> None:
    from tverase_pack.nodes.host.model.patching import patched_clone

    from host_support import host_steps as steps

    usual = loaded(file_weights, torch.float16, assigned=False)
    managed = dynamic(
        loaded(file_weights, torch.float16, assigned=True),
        lambda disable_dynamic: loaded(file_weights, torch.float16, assigned=False),
    )
    held = steps.weights(managed)
    source = torch.Generator().manual_seed(2)
    deltas = {
        f"diffusion_model.{key}": 0.02 * torch.randn(value.shape, generator=source)
        for key, value in file_weights.items()
    }
    wanted = export(pack, comfy_host, patched_clone(usual, {-0.8: deltas}))
    found = export(pack, comfy_host, patched_clone(managed, {-0.8: deltas}))
    assert steps.same(found, wanted)
    assert not steps.same(found, export(pack, comfy_host, usual))
    assert steps.same(steps.weights(managed), held)


def test_export_says_when_a_dynamic_model_cannot_be_loaded_again(
    pack: Any, comfy_host: Any, make_tiny_model: Make
) -> None:
    managed = dynamic(make_tiny_model(), None)
    with pytest.raises(BaseMismatchError, match="--disable-dynamic-vram"):
        export(pack, comfy_host, managed)


@pytest.fixture
def managed(comfy_host: Any, make_tiny_model: Make) -> type:
    """The host's own patcher, which says that its memory is dynamic; its `clone` is the host's."""
    from comfy.model_patcher import ModelPatcher

    if "disable_dynamic" not in inspect.signature(ModelPatcher.clone).parameters:
        pytest.skip("this ComfyUI has no dynamic memory management (0.12 or newer has)")

    class Managed(ModelPatcher):
        def is_dynamic(self) -> bool:
            return True

    return Managed


@pytest.mark.parametrize("where", ["at use", "patch"])
def test_a_merge_leaves_dynamic_memory_as_its_first_model_does(
    pack: Any, managed: type, make_tiny_model: Make, where: str
) -> None:
    """It is the first model with patches, and clones know how that was loaded."""
    import comfy_extras.nodes_model_merging as merging
    from tverase_pack.nodes.host.model.exact import exact_clone
    from tverase_pack.nodes.host.model.patching import patched_clone, plain_clone

    from host_support.host_steps import materialised, same, weights
    from host_support.vector_steps import vector_for

    def merged(first: Any) -> Any:
        with torch.inference_mode():
            return merging.ModelMergeSimple().merge(first, make_tiny_model(seed=5), 0.5)[0]

    usual = make_tiny_model()
    dynamic_one = managed(usual.model, usual.load_device, usual.offload_device)
    dynamic_one.cached_patcher_init = (lambda disable_dynamic: make_tiny_model(), ())
    found, held = merged(dynamic_one), weights(usual)
    assert found.is_dynamic()
    plain = plain_clone(found)
    assert not plain.is_dynamic()
    assert plain.model is not usual.model
    assert same(materialised(plain), materialised(merged(make_tiny_model())))
    if where == "at use":
        edited = exact_clone(found, {-1.0: vector_for(usual).deltas})
        assert not edited.is_dynamic()
        assert same(weights(edited), held)
    else:
        assert patched_clone(found, {-1.0: vector_for(usual).deltas}).is_dynamic()
    assert same(weights(usual), held)


def test_a_gguf_model_was_never_dynamic(
    pack: Any, managed: type, make_tiny_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its loader names no way to load it anew, and gives a patcher of its own kind."""
    import comfy.model_patcher
    from tverase_pack.nodes.host.model.exact import exact_clone, exact_edits

    from host_support.quantised import GGUF, plain_weights, quantised_model
    from host_support.vector_steps import vector_for

    plain = make_tiny_model()
    monkeypatch.setattr(comfy.model_patcher, "CoreModelPatcher", managed)
    model = quantised_model(GGUF, plain_weights(plain))
    assert model.cached_patcher_init is None
    assert not model.is_dynamic()
    vector = vector_for(plain)
    (edit,) = exact_edits(exact_clone(model, {-1.0: vector.deltas}))
    assert set(edit) == set(vector.deltas)


def test_a_loader_that_names_no_way_is_refused_with_two(
    pack: Any, managed: type, make_tiny_model: Make
) -> None:
    from tverase_pack.nodes.host.model.patching import plain_clone

    usual = make_tiny_model()
    lost = managed(usual.model, usual.load_device, usual.offload_device)
    with pytest.raises(BaseMismatchError, match=r"Load Diffusion Model.*--disable-dynamic-vram"):
        plain_clone(lost)
