"""Where the pack leans on ComfyUI's insides: each test fails when the host changes there.

docs/hosts.md lists all such places. Those whose change other tests notice have none here.
"""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from host_support.places import ROOT
from host_support.vector_steps import vector_for
from tverase_core.errors import BaseMismatchError
from tverase_core.vector.task_vector import TaskVector

Make = Callable[..., Any]
LAYER = "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k"
KEY = f"{LAYER}.weight"


def drawn(model: Any) -> torch.Tensor:
    from host_support import host_steps as steps

    return steps.output(model)


# Weights and patches


def test_key_patches_are_the_true_weight_its_reader_and_the_patches(make_tiny_model: Make) -> None:
    model = make_tiny_model()
    base = model.model.get_submodule(LAYER).weight.detach().clone()
    clone, delta = model.clone(), torch.ones_like(base)
    clone.add_patches({KEY: ("diff", (delta,))}, strength_patch=0.5)
    with torch.inference_mode():
        clone.patch_model(device_to=torch.device("cpu"))
    try:
        assert not torch.equal(model.model.get_submodule(LAYER).weight, base)
        entries = clone.get_key_patches("diffusion_model.")
        (weight, reader), *patches = entries[KEY]
        assert all(key.startswith("diffusion_model.") for key in entries)
        assert torch.equal(reader(weight), base)  # not what the module holds now
        assert torch.equal(reader(weight, inplace=True), base)
        ((strength, value, of_model, offset, function),) = patches
        assert (strength, value[0], of_model, offset, function) == (0.5, "diff", 1.0, None, None)
        assert value[1][0] is delta
        assert clone.patches[KEY] == patches
    finally:
        with torch.inference_mode():
            clone.unpatch_model(device_to=torch.device("cpu"))


def test_the_host_says_which_patches_it_took_and_is_silent_about_others(
    make_tiny_model: Make,
) -> None:
    clone = make_tiny_model().clone()
    delta = torch.ones(1)
    taken = clone.add_patches({KEY: ("diff", (delta,)), "nowhere.weight": ("diff", (delta,))}, 1.0)
    assert set(taken) == {KEY}
    assert set(clone.patches) == {KEY}


@pytest.mark.injections  # only exact edits and training use it
def test_a_function_in_the_layers_list_sees_the_weight_in_use(make_tiny_model: Make) -> None:
    model, seen = make_tiny_model(), []
    before = drawn(model)
    layer = model.model.get_submodule(LAYER)

    def halved(weight: torch.Tensor) -> torch.Tensor:
        seen.append((weight.dtype, tuple(weight.shape)))
        return weight / 2

    for name in ("weight", "bias"):
        assert isinstance(getattr(layer, f"{name}_function"), list)
    layer.weight_function = [*layer.weight_function, halved]
    after = drawn(model)
    # Computed in float32, so that is what the function gets: after the cast, before the product.
    assert seen == [(torch.float32, tuple(layer.weight.shape))]
    assert not torch.equal(after, before)
    layer.weight_function = []
    assert torch.equal(drawn(model), before)


@pytest.mark.training
def test_wrappers_are_called_and_wiping_takes_them_off(make_tiny_model: Make) -> None:
    import comfy.model_management
    import comfy.model_patcher

    model, seen = make_tiny_model(), []
    clone = model.clone()
    clone.add_weight_wrapper(KEY, lambda weight: seen.append(weight.dtype) or weight)
    assert list(clone.weight_wrapper_patches) == [KEY]  # what `refuse_patched` reads
    drawn(clone)
    assert seen
    layer = clone.model.get_submodule(LAYER)
    clone.detach()
    for module in clone.model.modules():
        comfy.model_patcher.wipe_lowvram_weight(module)
    assert (layer.weight_function, layer.bias_function) == ([], [])
    seen.clear()
    drawn(model)
    assert not seen


@pytest.mark.training
def test_the_shared_model_says_which_clone_is_loaded(make_tiny_model: Make) -> None:
    model = make_tiny_model()
    first, second = model.clone(), model.clone()
    for number, clone in enumerate((first, second)):
        clone.add_patches({KEY: ("diff", (torch.full((1,), float(number)),))})
    shared = model.model
    for clone in (first, second, first):
        drawn(clone)
        assert shared.current_weight_patches_uuid == clone.patches_uuid
        assert not shared.model_lowvram
    first.detach()
    assert shared.current_weight_patches_uuid != first.patches_uuid


@pytest.mark.injections
def test_clones_are_told_apart_by_the_names_of_their_injections(make_tiny_model: Make) -> None:
    from comfy.patcher_extension import PatcherInjection

    model, log = make_tiny_model(), []
    one, same_name, other = (model.clone() for _ in range(3))
    for clone, name in ((one, "tverase_a"), (same_name, "tverase_a"), (other, "tverase_b")):
        injection = PatcherInjection(lambda _: log.append("in"), lambda _: log.append("out"))
        clone.set_injections(name, [injection])
    assert one.clone_has_same_weights(same_name)
    assert not one.clone_has_same_weights(other)
    assert list(one.clone().injections) == ["tverase_a"]
    drawn(one)
    assert log[-1] == "in"
    drawn(model)  # another MODEL uses the shared modules
    assert log[-1] == "out"


def test_attachments_travel_with_clones(make_tiny_model: Make) -> None:
    model = make_tiny_model()
    if not hasattr(model, "set_attachments"):
        pytest.skip("this ComfyUI has no attachments (0.3.7 or newer has)")
    story = object()
    model.set_attachments("tverase_provenance", story)
    assert model.clone().get_attachment("tverase_provenance") is story
    assert model.get_attachment("none of that name") is None


def test_a_dynamic_model_without_its_loader_is_refused_in_our_words(
    pack: Any, make_tiny_model: Make
) -> None:
    from tverase_pack.nodes.host.model.patching import plain_clone

    model = make_tiny_model()
    if not hasattr(model, "is_dynamic"):
        pytest.skip("this ComfyUI has no dynamic memory management (0.12 or newer has)")
    assert not model.is_dynamic()
    assert plain_clone(model).model is model.model
    model.is_dynamic = lambda: True
    with pytest.raises(BaseMismatchError, match="managed by ComfyUI's dynamic VRAM"):
        plain_clone(model)


# The network's computation


@pytest.mark.training
def test_an_attention_override_is_asked(make_tiny_model: Make) -> None:
    import comfy.ldm.modules.attention as attention

    if not hasattr(attention, "wrap_attn"):
        pytest.skip("this ComfyUI asks no override (0.3.60 or newer does)")
    from host_support import host_steps as steps

    model, asked = make_tiny_model(), []

    def override(function: Any, q: Any, k: Any, v: Any, heads: int, **options: Any) -> Any:
        asked.append((q.ndim, heads))
        return attention.attention_pytorch(q, k, v, heads, **options)

    network = model.model.diffusion_model
    x, tokens = steps.inputs()
    dtype = model.model.manual_cast_dtype or model.model.get_dtype()
    with torch.inference_mode():
        network(
            x.to(dtype),
            torch.ones(2),
            context=tokens.to(dtype),
            transformer_options={"optimized_attention_override": override},
        )
    layers = [m for m in network.modules() if isinstance(m, attention.CrossAttention)]
    assert asked == [(3, layer.heads) for layer in layers]
    assert layers


def test_training_is_possible_exactly_where_we_say_so(comfy_host: Any, pack: Any) -> None:
    import comfy.ops
    from comfy.ldm.modules.attention import BasicTransformerBlock
    from tverase_pack.nodes.host.app.version import can_train

    block = BasicTransformerBlock(
        8, 1, 8, context_dim=8, operations=comfy.ops.disable_weight_init, dtype=torch.float32
    )
    for parameter in block.parameters():
        torch.nn.init.constant_(parameter, 0.1)
    x = torch.ones(1, 3, 8, requires_grad=True)
    trouble = ""
    try:
        block(x * 1.0, context=torch.ones(1, 3, 8)).sum().backward()
    except RuntimeError as problem:
        trouble = str(problem)
    assert not trouble or "inplace" in trouble
    wrapped = hasattr(comfy_host.comfy.model_patcher.ModelPatcher, "add_weight_wrapper")
    assert can_train() == (wrapped and not trouble)


def test_blocks_to_recompute_hold_almost_all_weights(pack: Any, make_tiny_model: Make) -> None:
    from tverase_pack.nodes.host.training.recompute import BLOCKS, blocks_of

    network = make_tiny_model().model.diffusion_model
    blocks = blocks_of(network)
    assert {type(block) for block in blocks.values()} == set(BLOCKS)
    inside = sum(p.numel() for block in blocks.values() for p in block.parameters())
    assert inside > 0.75 * sum(p.numel() for p in network.parameters())


# Text encoders

SETS = re.compile(r"\b(?:m|s|module|op|layer|self\.model)\.(_[a-z]\w*|dynamic_\w+)\s*=[^=]")
NO_MEMORY = {"_full_precision_mm", "_full_precision_mm_config"}  # flags


def test_what_the_hosts_memory_management_leaves_on_modules_is_known(
    pack: Any, comfy_host: Any
) -> None:
    """A copied text encoder must not keep pointers of the host's."""
    from tverase_pack.nodes.host.text.copies import HOSTS_OWN

    names = ("model_patcher", "ops", "model_prefetch", "pinned_memory", "memory_management")
    files = [Path(comfy_host.tree, "comfy", f"{name}.py") for name in names]
    left = {n for file in files if file.exists() for n in SETS.findall(file.read_text("utf-8"))}
    assert {name for name in left if not HOSTS_OWN.fullmatch(name)} <= NO_MEMORY
    if hasattr(comfy_host.comfy.model_patcher, "ModelPatcherDynamic"):
        assert "dynamic_vbars" in left  # else the search finds nothing any more


@pytest.mark.training
def test_tokens_are_rows_of_pairs_by_tower(tiny_clip: Any) -> None:
    (row,) = tiny_clip.tokenize("cat", disable_weights=True)["l"]
    numbers = [token for token, *_ in row]
    start, end = numbers[0], tiny_clip.tokenize("")["l"][0][1][0]
    assert len(row) == 77
    assert numbers[2] == end
    assert start != end


# Around the node


def test_a_progress_bar_takes_a_picture_and_tells_the_hook(
    pack: Any, comfy_host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import comfy.utils
    from PIL import Image
    from tverase_pack.nodes.host.app.progress import PREVIEW_SIZE, NodeProgress
    from tverase_pack.nodes.host.app.stock_loaders import watch_progress

    told: list[tuple[Any, ...]] = []
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda *words, **_: told.append(words))
    NodeProgress(lambda: Image.new("RGBA", (4, 4)))(3, 3, "")
    kind, picture, size = told[-1][2]
    assert told[-1][:2] == (3, 3)
    assert (kind, picture.mode, size) == ("JPEG", "RGB", PREVIEW_SIZE)
    heard: list[tuple[int, int]] = []
    watch_progress(lambda done, total: heard.append((done, total)))
    NodeProgress()(1, 2)
    assert heard == [(1, 2)]


def test_pictures_of_a_job_take_little_of_its_time_and_texts_go_on(
    pack: Any, comfy_host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image
    from tverase_pack.nodes.host.app import progress

    clock = [100.0]
    drawn, texts = list[float](), list[float]()

    def preview() -> Image.Image:
        drawn.append(clock[0])
        clock[0] += 0.1
        return Image.new("RGB", (4, 4))

    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(progress, "show_text", lambda message: texts.append(clock[0]))
    told = progress.NodeProgress(preview)
    for done in range(100):
        told(done, 100, "a step")
        clock[0] += 0.2
    assert len(drawn) == 4  # 0.1 seconds each, every 5.1 of some 20
    assert len(texts) == pytest.approx(20 / 1.6, abs=1)
    told(100, 100, "done")
    assert len(drawn) == 5
    assert texts[-1] == pytest.approx(drawn[-1] + 0.1)


def test_text_goes_to_the_running_node_of_who_asked(
    pack: Any, comfy_host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = pytest.importorskip("server")
    if not hasattr(server.PromptServer, "send_progress_text"):
        pytest.skip("this ComfyUI shows no text on nodes (0.3.45 or newer does)")
    utils = pytest.importorskip("comfy_execution.utils")
    from tverase_pack.nodes.host.app.progress import show_text

    sent: list[tuple[Any, ...]] = []
    real = server.PromptServer
    stand_in = SimpleNamespace(
        client_id="browser",
        send_sync=lambda *words: sent.append(words),
        send_progress_text=lambda *words: real.send_progress_text(stand_in, *words),
    )
    monkeypatch.setattr(real, "instance", stand_in, raising=False)
    show_text("nobody runs")
    assert not sent
    with utils.CurrentNodeContext("prompt", "7"):
        show_text("step 1")
    ((_, message, who),) = sent
    assert who == "browser"
    assert b"7" in message
    assert message.endswith(b"step 1")


def test_vision_models_answer_by_name(comfy_host: Any) -> None:
    import comfy.clip_vision

    made = comfy.clip_vision.Output()
    made["image_embeds"] = torch.ones(1, 3)
    assert made["image_embeds"].shape == (1, 3)
    encode = inspect.getsource(comfy.clip_vision.ClipVisionModel.encode_image)
    assert '"image_embeds"' in encode


def test_the_users_wish_about_mapping_is_where_we_look(comfy_host: Any) -> None:
    import comfy.utils
    from comfy.cli_args import args

    if not hasattr(args, "disable_mmap"):
        pytest.skip("this ComfyUI has no --disable-mmap")
    assert comfy.utils.DISABLE_MMAP is False


LIST = """checkpoint: nowhere.safetensors
output: list
concepts:
  - {name: cat, prompts: [a cat], strength: 1.0}
"""


@pytest.mark.parametrize(
    ("word", "code", "sentence"),
    [
        ("--disable-metadata", 1, "there is no 'nowhere.safetensors' in models/checkpoints"),
        ("--no-such-word", 2, "unrecognized arguments: --no-such-word"),
    ],
)
def test_the_list_command_starts_the_host_and_hands_it_its_words(
    comfy_host: Any, tmp_path: Path, word: str, code: int, sentence: str
) -> None:
    listing = tmp_path / "list.yaml"
    listing.write_text(LIST, "utf-8")
    words = ["--comfyui", comfy_host.tree, "--cpu", "--output-directory", tmp_path, word]
    done = subprocess.run(
        [sys.executable, ROOT / "erase_list.py", listing, *words],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert sentence in done.stderr
    assert done.returncode == code


def test_the_largest_result_leaves_the_cache_first(
    comfy_host: Any, pack: Any, make_tiny_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    caching = pytest.importorskip("comfy_execution.caching")
    kind = getattr(caching, "RAMPressureCache", None)
    if kind is None or "get_ram_usage" not in inspect.getsource(kind):
        pytest.skip("this ComfyUI's cache asks no object how large it is")
    whole = vector_for(make_tiny_model())
    part = TaskVector(dict(list(whole.deltas.items())[:3]), whole.base)
    cache = kind(None)
    cache.cache = {"part": ([[part]], None), "whole": ([[whole]], None)}
    cache.used_generation = {"part": 0, "whole": 0}
    cache.timestamps = {"part": 2.0, "whole": 1.0}  # by these alone `part` would go
    monkeypatch.setattr(
        caching.psutil,
        "virtual_memory",
        lambda: SimpleNamespace(available=0 if len(cache.cache) == 2 else 2**40),
    )
    cache.poll(1.0)
    assert list(cache.cache) == ["part"]


def test_a_family_that_names_no_text_encoder_refuses_none(pack: Any) -> None:
    """The demo's is one. Configs of ComfyUI 0.33 answer None to any name, with a complaint."""
    towers = importlib.import_module(f"{pack.__name__}.nodes.host.text.towers")

    class AnswersAll:
        def __getattr__(self, name: str) -> None:
            raise AssertionError(f"{name} was asked of the object")

    told = SimpleNamespace(model_config=AnswersAll(), diffusion_model=None)
    towers.refuse_other_family(SimpleNamespace(model=told), None)
