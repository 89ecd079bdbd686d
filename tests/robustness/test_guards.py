"""Each guard of the host layer, alone: what it refuses, and what it takes back."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tverase_core.errors import (
    BaseMismatchError,
    ConfigError,
    KeyMismatchError,
    ShapeMismatchError,
    TextWidthError,
)
from tverase_core.finetuning.config import FinetuneConfig

KEY = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
BIAS = "diffusion_model.out.2.bias"


def _raise(error: BaseException) -> Callable[..., Any]:
    def raising(*_: Any, **__: Any) -> Any:
        raise error

    return raising


def _module(name: str) -> Any:
    import importlib

    return importlib.import_module(f"tverase_pack.nodes.host.{name}")


def test_nobody_listens_to_the_hosts_log_afterwards(pack: Any) -> None:
    complaints = _module("app.complaints")
    before = list(logging.getLogger().handlers)
    with pytest.raises(ZeroDivisionError), complaints.complaints_about("lora"):
        raise ZeroDivisionError
    assert logging.getLogger().handlers == before


def test_an_install_without_the_demo_model_says_so(pack: Any, tmp_path: Any) -> None:
    with pytest.raises(FileNotFoundError, match="Install the pack again"):
        _module("app.demo_model").load_demo_model(tmp_path)


def test_a_checkpoint_without_its_parts(pack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loaders = _module("app.stock_loaders")
    stock = SimpleNamespace(load_checkpoint=lambda name: (1, None, None))
    monkeypatch.setattr(loaders.nodes, "CheckpointLoaderSimple", lambda: stock)
    with pytest.raises(ConfigError, match="no CLIP and no VAE"):
        loaders.load_checkpoint("x")


def test_old_hosts_are_told(pack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    version, exact = _module("app.version"), _module("model.exact")
    monkeypatch.setattr(version, "can_train", lambda: False)
    with pytest.raises(version.HostTooOldError, match=r"0\.3\.41 or newer"):
        version.require_training()
    view = SimpleNamespace(usable={KEY: None})
    monkeypatch.setattr(exact, "view_of", lambda *_: view)
    for name in ("patched_clone", "plain_clone"):
        monkeypatch.setattr(exact, name, lambda *_: SimpleNamespace())
    with pytest.raises(version.HostTooOldError, match="Runtime-exact mode needs"):
        exact.exact_clone(SimpleNamespace(), {1.0: {KEY: torch.ones(1)}})


def test_a_patch_that_the_host_leaves_out(pack: Any, make_tiny_model: Any) -> None:
    model = make_tiny_model()
    computed = _module("model.computed").computed
    weight = torch.zeros(4)
    patch = [(1.0, ("diff", (torch.ones(7),)), 1.0, None, None)]
    with pytest.raises(BaseMismatchError, match="draws without it"):
        computed(patch, weight, BIAS)
    model.add_patches({BIAS: ("diff", (torch.ones(7),))})
    with pytest.raises(BaseMismatchError, match="draws without it"):
        _module("model.weights").refuse_failing_patches(model)


def test_the_hosts_loading_is_noticed_and_then_forgotten(pack: Any) -> None:
    class Patcher:
        def load(self) -> list[bool]:
            return [at_work()]

        def detach(self) -> None:
            raise ZeroDivisionError

    patcher, noticed = Patcher(), _module("network.loose").noticed_loading
    with noticed(patcher) as at_work:
        assert not at_work()
        assert patcher.load() == [True]
        with pytest.raises(ZeroDivisionError):
            patcher.detach()
        assert not at_work()
    with pytest.raises(ZeroDivisionError), noticed(patcher):
        patcher.detach()
    assert not vars(patcher)  # which would keep it in memory


@pytest.mark.injections
def test_edits_at_use_are_no_weights(pack: Any, make_tiny_model: Any) -> None:
    model = make_tiny_model()
    model.set_injections("bypass", [])
    at_use = _module("model.at_use")
    assert at_use.edits_at_use(model) == ["bypass"]
    with pytest.raises(BaseMismatchError, match=r"Export reads weights.*bypass"):
        at_use.refuse_edits_at_use(model, "Export")
    bare = at_use.without_edits(model)
    assert not at_use.edits_at_use(bare)
    assert bare.patches_uuid != model.patches_uuid


def test_several_scales_of_one_weight(pack: Any) -> None:
    layer = torch.nn.Linear(2, 2)
    layer.scale_weight = torch.ones(2)
    with pytest.raises(BaseMismatchError, match="2 scales"):
        _module("storage.formats").stored_scale(layer, "weight")


def test_export_knows_unets_only(pack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    export = _module("model.export")
    with pytest.raises(BaseMismatchError, match="UNets"):
        export.names_to_export(["diffusion_model.double_blocks.0.img_attn.qkv.weight"])
    monkeypatch.setattr(export, "diffusers_names", lambda keys: {})
    with pytest.raises(BaseMismatchError, match="1 weights have no name"):
        export.names_to_export([KEY])
    monkeypatch.setattr(export, "view_of", lambda model: SimpleNamespace(packed={KEY}))
    model = SimpleNamespace(object_patches={})
    with pytest.raises(BaseMismatchError, match="are quantised"):
        export.export_unet(model, "x")


def test_the_clone_that_is_exported_is_unloaded(
    pack: Any, comfy_host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    export, gone = _module("model.export"), []
    clone = SimpleNamespace(model_state_dict=dict, detach=lambda: gone.append(1))
    monkeypatch.setattr(export, "plain_clone", lambda model: clone)
    monkeypatch.setattr(comfy_host.comfy.model_management, "load_models_gpu", lambda *_, **__: None)
    monkeypatch.setattr(clone, "model_state_dict", lambda prefix: {})
    managed = SimpleNamespace(is_dynamic=lambda: True)
    with pytest.raises(ZeroDivisionError), export._patched_weights(managed):
        raise ZeroDivisionError
    assert gone == [1]


def test_models_of_two_families_are_not_subtracted(pack: Any, make_tiny_model: Any) -> None:
    from host_support import tiny_host

    extraction = _module("model.extraction")
    model, other = make_tiny_model(), tiny_host.build_sdxl()
    with pytest.raises(KeyMismatchError, match="are different models"):
        extraction.deltas_between(model, other, lambda *_: None)
    tuned = make_tiny_model()
    layer = tuned.model.diffusion_model.out[2]
    with torch.inference_mode():
        layer.bias = torch.nn.Parameter(torch.zeros(3), requires_grad=False)
    with pytest.raises(ShapeMismatchError, match=r"out\.2\.bias: base has shape \(4,\)"):
        extraction.deltas_between(model, tuned, lambda *_: None)
    with pytest.raises(BaseMismatchError, match="exactly the base's weights"):
        extraction.deltas_between(model, model.clone(), lambda *_: None)
    still = model.clone()
    still.add_patches({BIAS: ("diff", (torch.zeros(4),))})
    with pytest.raises(BaseMismatchError, match="move none of them"):
        extraction.deltas_between(model, still, lambda *_: None)
    patched = model.clone()
    patched.add_patches({BIAS: ("diff", (torch.ones(4),))})
    with pytest.raises(BaseMismatchError, match="does not carry the base's patches"):
        extraction.deltas_between(patched, model, lambda *_: None)


def test_a_clone_is_outside_dynamic_memory_or_refused(pack: Any) -> None:
    plain_clone, asked = _module("model.patching").plain_clone, []

    class Managed:
        refuses: Exception | None = None

        def clone(self, disable_dynamic: bool = False) -> str:
            asked.append(disable_dynamic)
            if self.refuses is not None:
                raise self.refuses
            return "outside"

    assert plain_clone(Managed()) == "outside"
    assert asked == [True]
    Managed.refuses = RuntimeError("no non-dynamic delegate")
    with pytest.raises(BaseMismatchError, match="--disable-dynamic-vram"):
        plain_clone(Managed())
    Managed.refuses = RuntimeError("out of something else")
    with pytest.raises(RuntimeError, match="something else"):
        plain_clone(Managed())


def test_a_vector_of_the_narrower_model_asks_first(pack: Any) -> None:
    siblings = _module("model.siblings")
    from tverase_core.model.fingerprint import key_digest

    narrow = {siblings.FIRST: torch.Size((8, 4, 3, 3)), BIAS: torch.Size((4,))}
    wide = {**narrow, siblings.FIRST: torch.Size((8, 9, 3, 3))}
    vector = SimpleNamespace(base=SimpleNamespace(key_digest=key_digest(narrow)))
    with pytest.raises(BaseMismatchError, match="9 input channels for 4"):
        siblings.of_text_to_image(wide, 4, vector, False)
    assert siblings.of_text_to_image(wide, 4, vector, True) == narrow


def test_quantised_weights_that_nobody_here_reads(
    pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, formats, view = (
        _module(n) for n in ("model.weights", "storage.formats", "storage.view")
    )
    with pytest.raises(BaseMismatchError, match="whole numbers"):
        weights._refuse_misread({KEY: torch.tensor([100.0, -3.0]), BIAS: torch.tensor([0.5])})
    weights._refuse_misread({KEY: torch.tensor([100.5, -3.0])})

    class Packed:
        _qdata, _layout_cls, is_meta = torch.ones(1), "Unheard", False
        dequantize = _raise(KeyError("Unheard"))

        def detach(self) -> Packed:
            return self

    with pytest.raises(BaseMismatchError, match=r"Unheard, which this ComfyUI cannot unpack"):
        formats.values(torch.nn.Linear(1, 1), "weight", Packed())
    seen = SimpleNamespace(unreadable={KEY: "Odd of torch.int8"}, shapes={}, packed=())
    monkeypatch.setattr(view, "view_of", lambda *_: seen)
    with pytest.raises(BaseMismatchError, match=r"cannot read.*Odd of torch\.int8"):
        view.refuse_unreadable(SimpleNamespace(), [KEY])
    seen.shapes = {KEY: None}
    view.refuse_unreadable(SimpleNamespace(), [KEY])
    module = torch.nn.Module()
    module.weight = torch.ones(1, dtype=torch.int8)
    seen.unreadable = {"weight": "int8"}
    with pytest.raises(BaseMismatchError, match="ESD cannot train in this format"):
        view.refuse_quantised(SimpleNamespace(model=module), "ESD")


def test_other_text_encoders_and_vectors(
    pack: Any, make_tiny_model: Any, tiny_clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, edits = _module("text.encoder"), _module("text.edits")
    vector = SimpleNamespace(deltas={KEY: torch.ones(1)})
    with pytest.raises(BaseMismatchError, match="no weight of a text encoder"):
        edits.checked_clip_deltas(tiny_clip, vector, allow_other_weights=False)
    model = make_tiny_model()
    made = encoder.HostTextEncoder(model, tiny_clip)
    with pytest.raises(TextWidthError, match="this CLIP has"):
        made.encode_with({"l": torch.ones(1, 1, 5)}, "a {}")
    with pytest.raises(ConfigError, match="longer than the text encoder"):
        _module("text.towers").refuse_cut(
            SimpleNamespace(name="t5xxl", is_clip=False, places=4, tokenizer=_tokens_of(9)),
            [list(range(9))],
            "a cat " * 9,
        )
    others = [SimpleNamespace(name="t5xxl", is_clip=False)]
    monkeypatch.setattr(edits, "towers_of", lambda _: others)
    with pytest.raises(BaseMismatchError, match="text encoders t5xxl"):
        edits.EditableHostTextEncoder(model, tiny_clip)


def test_patched_8_bit_text_encoders(pack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    copies, eight = _module("text.copies"), torch.ones(1, dtype=torch.float8_e4m3fn)
    monkeypatch.setattr(copies, "stored_weight", lambda *_: eight)
    layer = torch.nn.Linear(1, 1)
    patcher = SimpleNamespace(model=torch.nn.Sequential(layer), patches={"0.weight": [1]})
    with pytest.raises(BaseMismatchError, match="with a LoRA"):
        copies._value(patcher, "0.weight", None)


def _tokens_of(longest: int) -> Any:
    return SimpleNamespace(max_length=longest, tokenize_with_weights=lambda _: [])


def test_the_watcher_of_memory_ends(pack: Any) -> None:
    before = threading.active_count()
    peak = _module("training.peak").measured_peak
    with pytest.raises(ZeroDivisionError), peak(torch.device("cpu")):
        raise ZeroDivisionError
    assert threading.active_count() == before


def test_8_bit_moments_have_no_checkpoints(pack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    eight = _module("training.adamw_8bit")
    monkeypatch.setattr(eight.util, "find_spec", lambda name: name)
    config = FinetuneConfig(optimizer="adamw8bit")
    eight.require_eight_bit(config, 0)
    with pytest.raises(ConfigError, match="keeps no checkpoints"):
        eight.require_eight_bit(config, 5)


@pytest.mark.parametrize("stays", [True, False])
def test_autograd_gets_no_inference_tensor(pack: Any, stays: bool) -> None:
    """Hosts that hand over the loader's own weight: `backward` could not save it."""
    layer = torch.nn.Linear(2, 2) if stays else torch.nn.LayerNorm(2)
    slot = _module("network.weight_slot").WeightSlot("weight", [], layer)
    with torch.inference_mode():
        weight = torch.ones(layer.weight.shape)
    x = torch.ones(1, 2, requires_grad=True)
    if stays:
        told = torch.nn.functional.linear(x, slot(weight))
    else:
        told = torch.nn.functional.layer_norm(x, (2,), slot(weight))
    told.sum().backward()
    assert x.grad is not None


def test_every_function_that_refuses_or_cleans_up_has_a_fault_planted_in_it() -> None:
    from bench.fault_parts.guards import guarding_functions, without_fault

    assert len(guarding_functions()) >= 50
    assert not without_fault()
