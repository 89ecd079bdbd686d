"""Edits that weights do not show, and patches that the host leaves out: named, never lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from host_support.vector_steps import vector_for
from tverase_core.errors import BaseMismatchError

Make = Callable[..., Any]
QUERY = "diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q.weight"  # [64, 64]
CONV = "diffusion_model.input_blocks.1.0.in_layers.2.weight"  # [32, 32, 3, 3]


def extract(pack: Any, base: Any, tuned: Any) -> Any:
    """The node's answer: its vector, and its text where it has one."""
    cls = pack.NODE_CLASS_MAPPINGS["TVEraseExtractTaskVector"]
    with torch.inference_mode():
        return cls().extract(base=base, tuned=tuned, concept="cat")


def wrapped(pack: Any, model: Any) -> Any:
    """As the MODEL of the stock Train LoRA node before ComfyUI 0.4."""
    made = model.clone()
    made.add_weight_wrapper(CONV, lambda weight: weight + 1)
    return made


def runtime_exact(pack: Any, model: Any) -> Any:
    from tverase_pack.nodes.host.model.exact import exact_clone

    return exact_clone(model, {-1.0: vector_for(model).deltas})


def bypassed(pack: Any, model: Any) -> Any:
    """As a LoRA that is added to what a layer puts out."""
    from comfy.patcher_extension import PatcherInjection

    made = model.clone()
    made.set_injections("bypass_lora", [PatcherInjection(lambda _: None, lambda _: None)])
    return made


def exchanged(pack: Any, model: Any) -> Any:
    made = model.clone()
    made.add_object_patch("diffusion_model.out", torch.nn.Identity())
    return made


HIDDEN = {
    "input_blocks.1.0.in_layers.2.weight": wrapped,
    "runtime_exact": runtime_exact,
    "bypass_lora": bypassed,
    "diffusion_model.out": exchanged,
}


@pytest.mark.injections
@pytest.mark.training  # older hosts have no weight wrappers either
@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.parametrize("also", ["nothing", "a patch"])
def test_an_edit_that_acts_at_use_is_named(
    pack: Any, comfy_host: Any, make_tiny_model: Make, name: str, also: str
) -> None:
    """In the tuned model, in the base, and where a file would be written."""
    from host_support.host_steps import node, same, weights

    model = make_tiny_model(storage=torch.float32)
    held = weights(model)
    edited = HIDDEN[name](pack, model)
    if also == "a patch":
        edited.add_patches({QUERY: ("diff", (torch.ones(64, 64),))}, 1.0)
    named = rf"act when it computes .*{name}.* lack them"
    for pair in ((model, edited), (edited, model)):
        with pytest.raises(BaseMismatchError, match=rf"Extract Task Vector.*{named}"):
            extract(pack, *pair)
    with pytest.raises(BaseMismatchError, match=rf"Export UNet.*{named}"):
        node(pack, "ExportUNet", model=edited, filename_prefix="hidden/unet")
    assert not list(Path(comfy_host.folder_paths.get_output_directory()).rglob("hidden/*"))
    assert same(weights(model), held)


def test_a_function_in_an_exchanged_place_hides_no_weight(pack: Any, make_tiny_model: Make) -> None:
    """Packs with another attention exchange `forward` methods: the weights are all there is."""
    model = make_tiny_model()
    tuned = model.clone()
    tuned.add_object_patch("diffusion_model.out.forward", model.model.diffusion_model.out.forward)
    tuned.add_patches({QUERY: ("diff", (torch.ones(64, 64),))}, 1.0)
    assert list(extract(pack, model, tuned)[0].deltas) == [QUERY]


def lora(rows: int, columns: int) -> Any:
    adapters = pytest.importorskip("comfy.weight_adapter.lora")
    return adapters.LoRAAdapter(
        set(), (torch.ones(rows, 2), torch.ones(2, columns), 2.0, None, None, None)
    )


FAILING = {
    "lora of another width": (lambda: lora(64, 48), "ERROR"),
    "difference of another shape": (lambda: ("diff", (torch.ones(64, 48),)), "SHAPE MISMATCH"),
    "kind that the host does not know": (lambda: ("glora9", (torch.ones(64, 64),)), "recognized"),
}


@pytest.mark.parametrize("kind", FAILING)
@pytest.mark.parametrize("where", ["on the base", "on another checkpoint"])
def test_a_patch_that_the_host_leaves_out_is_refused(
    pack: Any, comfy_host: Any, make_tiny_model: Make, kind: str, where: str
) -> None:
    """A good patch beside it changes nothing: half a LoRA is no LoRA."""
    from host_support.host_steps import node

    make, said = FAILING[kind]
    base = make_tiny_model(storage=torch.float32)
    tuned = base.clone() if where == "on the base" else make_tiny_model(torch.float32, seed=3)
    tuned.add_patches({CONV: ("diff", (torch.ones(32, 32, 3, 3),))}, 1.0)
    tuned.add_patches({QUERY: make()}, 1.0)
    for run in (
        lambda: extract(pack, base, tuned),
        lambda: node(pack, "ExportUNet", model=tuned, filename_prefix="failing/unet"),
    ):
        with pytest.raises(BaseMismatchError, match=rf"patch on .*attn1\.to_q\.weight.*{said}"):
            run()
    assert not list(Path(comfy_host.folder_paths.get_output_directory()).rglob("failing/*"))


def test_a_text_encoder_with_such_a_patch_is_refused(
    pack: Any, make_tiny_model: Make, tiny_clip: Any
) -> None:
    from tverase_pack.nodes.host.text.encoder import HostTextEncoder

    clip = tiny_clip.clone()
    key = next(key for key in clip.patcher.model.state_dict() if key.endswith("fc1.weight"))
    clip.patcher.add_patches({key: ("diff", (torch.ones(3, 3),))}, 1.0)
    with pytest.raises(BaseMismatchError, match=r"patch on .*fc1\.weight"):
        HostTextEncoder(make_tiny_model(), clip)


def test_other_warnings_of_the_host_are_no_reason(
    pack: Any, make_tiny_model: Make, monkeypatch: Any
) -> None:
    import logging

    import comfy.lora

    compute = comfy.lora.calculate_weight

    def talkative(*given: Any) -> torch.Tensor:
        logging.warning("something else altogether")
        return compute(*given)

    monkeypatch.setattr(comfy.lora, "calculate_weight", talkative)
    model = make_tiny_model()
    tuned = model.clone()
    tuned.add_patches({QUERY: ("diff", (torch.ones(64, 64),))}, 1.0)
    assert list(extract(pack, model, tuned)[0].deltas) == [QUERY]
    assert not [h for h in logging.getLogger().handlers if type(h).__name__ == "_Listener"]


def test_patches_that_move_nothing_are_counted(
    pack: Any, make_tiny_model: Make, monkeypatch: Any
) -> None:
    from tverase_pack.nodes.host.app import progress

    said: list[str] = []
    monkeypatch.setattr(progress, "show_text", said.append)
    model = make_tiny_model()
    tuned = model.clone()
    tuned.add_patches({QUERY: ("diff", (torch.ones(64, 64),))}, 1.0)
    extract(pack, model, tuned)
    assert said[-1] == "task vector of 'cat': 1 weights differ."
    tuned.add_patches({CONV: ("diff", (torch.zeros(32, 32, 3, 3),))}, 1.0)
    extract(pack, model, tuned)
    assert said[-1].endswith(f"1 weights differ; patches on 1 others move nothing ({CONV}).")


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_a_tuned_model_whose_patches_all_move_nothing(
    pack: Any, make_tiny_model: Make, strength: float
) -> None:
    model = make_tiny_model()
    tuned = model.clone()
    delta = torch.zeros(64, 64) if strength else torch.ones(64, 64)
    tuned.add_patches({QUERY: ("diff", (delta,))}, strength)
    with pytest.raises(BaseMismatchError, match=rf"patches on 1 weights \({QUERY}\) move none"):
        extract(pack, model, tuned)
