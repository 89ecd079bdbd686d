"""What the nodes refuse on the real host, before any work, and what they must not refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tverase_core.errors import BaseMismatchError

Make = Callable[..., Any]
ESD_INPUTS = {
    "prompts": "a cat",
    "erase_from": "",
    "width": 64,
    "height": 64,
    "sample_guidance": 3.0,
    "sample_steps": 2,
    "variant": "x",
    "steps": 1,
    "learning_rate": 1e-4,
    "batch_size": 2,
    "seed": 1,
}
UCE_INPUTS = {
    "concepts": "cat",
    "guide": "",
    "preserve": "",
    "kind": "object",
    "expand": False,
    "keep": 0.5,
    "preserve_weight": 1.0,
    "erase_weight": 1.0,
    "form": "2025",
}
TUNE_INPUTS = {
    "steps": 1,
    "learning_rate": 1e-3,
    "batch_size": 2,
    "accumulation": 1,
    "seed": 3,
    "flip": False,
    "ema": False,
    "weight_decay": 0.0,
    "gradient_clip": 1.0,
    "rank": 0,
}


def learners(pack: Any, model: Any, clip: Any) -> dict[str, Callable[[], Any]]:
    """The nodes that learn a vector from a MODEL by its gradients or weights."""
    from host_support.attack_steps import defaults
    from host_support.host_steps import node, pictures

    given = {"model": model, "clip": clip}
    shown = {"model": model, "concept_set": pictures()}
    stereo, few_shot = (
        {**given, **shown, **defaults(pack.NODE_CLASS_MAPPINGS[f"TVErase{name}"])}
        for name in ("STEREO", "FewShot")
    )
    return {
        "fine-tune": lambda: node(pack, "ConceptFinetune", **shown, **TUNE_INPUTS),
        "ESD": lambda: node(pack, "ESD", **given, concept_set=pictures(), **ESD_INPUTS),
        "UCE": lambda: node(pack, "UCE", **given, **UCE_INPUTS),
        "STEREO": lambda: node(pack, "STEREO", **stereo),
        "few-shot": lambda: node(pack, "FewShot", **few_shot),
    }


def advanced() -> Any:
    """The host's own nodes that exchange a MODEL's sampling."""
    import comfy_extras.nodes_model_advanced

    return comfy_extras.nodes_model_advanced


def discrete(model: Any, sampling: str, zsnr: bool = False) -> Any:
    return advanced().ModelSamplingDiscrete().patch(model, sampling, zsnr)[0]


def edm(model: Any, sampling: str) -> Any:
    return advanced().ModelSamplingContinuousEDM().patch(model, sampling, 120.0, 0.002)[0]


def continuous_v(model: Any) -> Any:
    return advanced().ModelSamplingContinuousV().patch(model, "v_prediction", 500.0, 0.03)[0]


@pytest.mark.parametrize("stored", ["epsilon", "v"])
@pytest.mark.parametrize(
    ("sampling", "zsnr"),
    [("", False), ("eps", False), ("v_prediction", False), ("v_prediction", 1)],
)
def test_what_the_schedule_asks_for_is_what_the_host_denoises_with(
    make_tiny_model: Make, pack: Any, stored: str, sampling: str, zsnr: bool
) -> None:
    """A network that hits the target gives the host the clean picture, whatever node stands
    between the loader and here."""
    from tverase_pack.nodes.host.network.schedule import schedule_of

    model = make_tiny_model(prediction=stored)
    if sampling:
        model = discrete(model, sampling, bool(zsnr))
    schedule = schedule_of(model)
    source = torch.Generator().manual_seed(2)
    x0, noise = torch.randn((2, 3, 4, 8, 8), generator=source).unbind(0)
    times = torch.tensor([40, 500, 960])
    host = model.get_model_object("model_sampling")
    sigma = host.sigmas[times]
    x_t, target = schedule.add_noise(x0, noise, times), schedule.target(x0, noise, times)
    scaled = x_t * (1 + sigma**2).view(-1, 1, 1, 1).sqrt()
    torch.testing.assert_close(host.calculate_input(sigma, scaled), x_t, rtol=1e-4, atol=1e-4)
    clean = host.calculate_denoised(sigma, target, scaled)
    torch.testing.assert_close(clean, x0, rtol=1e-3, atol=1e-3)
    assert len(schedule) == 1000


@pytest.mark.parametrize(
    ("exchanged", "words"),
    [
        (lambda model: discrete(model, "lcm"), "predicts lcm"),
        (lambda model: discrete(model, "x0"), "predicts x0"),
        (lambda model: edm(model, "edm_playground_v2.5"), "predicts edm"),
        (lambda model: edm(model, "eps"), "noise levels lie at the timesteps"),
        (lambda model: edm(model, "v_prediction"), "noise levels lie at the timesteps"),
        (continuous_v, "noise levels lie at the timesteps"),
    ],
)
def test_other_predictions_and_schedules_are_refused(
    make_tiny_model: Make, pack: Any, exchanged: Callable[[Any], Any], words: str
) -> None:
    from tverase_pack.nodes.host.network.schedule import schedule_of

    with pytest.raises(BaseMismatchError, match=f"{words}.*take it out or choose"):
        schedule_of(exchanged(make_tiny_model()))


@pytest.mark.training
def test_a_model_with_another_sampling_learns_nothing(
    pack: Any, make_tiny_model: Make, tiny_clip: Any
) -> None:
    nodes = learners(pack, discrete(make_tiny_model(), "lcm"), tiny_clip)
    for run in nodes.values():
        with pytest.raises(BaseMismatchError, match="predicts lcm"):
            run()


def test_known_families_keep_their_schedule(comfy_host: Any, pack: Any) -> None:
    from tverase_pack.nodes.demo_nodes import MODEL_FOLDER
    from tverase_pack.nodes.host.app.demo_model import load_demo_model
    from tverase_pack.nodes.host.network.schedule import schedule_of

    from host_support import tiny_host

    with torch.inference_mode():
        demo = load_demo_model(MODEL_FOLDER)[0]
    for model, prediction in (
        (demo, "epsilon"),
        (tiny_host.build_sdxl(), "epsilon"),
        (tiny_host.build_model(prediction="v"), "v"),
    ):
        schedule = schedule_of(model)
        assert schedule.prediction == prediction
        sigmas = model.model.model_sampling.sigmas.double()
        assert torch.equal(schedule.alphas_cumprod, 1 / (1 + sigmas**2))


@pytest.mark.training
def test_a_runtime_exact_erasure_is_no_base(
    pack: Any, make_tiny_model: Make, tiny_clip: Any
) -> None:
    from tverase_pack.nodes.host.model.exact import exact_clone
    from tverase_pack.nodes.host.model.weights import model_shapes

    model = make_tiny_model()
    plan = {-1.0: {key: torch.ones(shape) for key, shape in model_shapes(model).items()}}
    erased = exact_clone(model, plan)
    assert not erased.patches
    for run in learners(pack, erased, tiny_clip).values():
        with pytest.raises(BaseMismatchError, match=r"act when it computes \(runtime_exact\)"):
            run()


@pytest.mark.training
def test_a_model_in_training_elsewhere_is_no_base(
    pack: Any, make_tiny_model: Make, tiny_clip: Any
) -> None:
    wrapped = make_tiny_model().clone()
    wrapped.add_weight_wrapper("diffusion_model.out.2.weight", lambda weight: weight + 1)
    for run in learners(pack, wrapped, tiny_clip).values():
        with pytest.raises(BaseMismatchError, match=r"out\.2\.weight.*straight from"):
            run()


def build_wide(channels: int, masked: bool = False) -> Any:
    """A tiny model whose network takes more channels than latents have."""
    import comfy.model_base
    import comfy.model_patcher

    from host_support import tiny_host

    with torch.inference_mode():
        config = tiny_host.TinySD15({**tiny_host.UNET, "in_channels": channels})
        config.set_inference_dtype(torch.float16, torch.float32)
        model = comfy.model_base.BaseModel(config, device="cpu")
        if masked:
            model.set_inpaint()
        tiny_host.fill(model.diffusion_model, 0)
    return comfy.model_patcher.ModelPatcher(model, tiny_host.CPU, tiny_host.CPU)


@pytest.mark.training
@pytest.mark.parametrize(("channels", "masked"), [(9, True), (8, False)])
def test_models_that_want_a_picture_are_refused(
    pack: Any, comfy_host: Any, tiny_clip: Any, channels: int, masked: bool
) -> None:
    from tverase_pack.nodes.host.model.denoiser import open_denoiser

    from host_support.host_steps import node, pictures

    model = build_wide(channels, masked)
    given = {"latents": {"samples": pictures().latents}, "concept": "cat", "caption": ""}
    runs = {
        "set": lambda: node(pack, "ConceptSetFromLatents", model=model, clip=tiny_clip, **given),
        "denoiser": lambda: open_denoiser(model).__enter__(),
        **learners(pack, model, tiny_clip),
    }
    for run in runs.values():
        with pytest.raises(
            BaseMismatchError, match=f"network has {channels} input channels, its latents have 4"
        ):
            run()


def test_the_demo_models_wide_latents_are_no_extra_input(
    pack: Any, comfy_host: Any, make_tiny_model: Make
) -> None:
    from tverase_pack.nodes.demo_nodes import MODEL_FOLDER
    from tverase_pack.nodes.host.app.demo_model import load_demo_model
    from tverase_pack.nodes.host.model.conditioning import refuse_extra_inputs

    with torch.inference_mode():
        demo = load_demo_model(MODEL_FOLDER)[0]
    assert demo.model.diffusion_model.in_channels == 24
    refuse_extra_inputs(demo)
    refuse_extra_inputs(make_tiny_model())


@pytest.mark.training
@pytest.mark.parametrize(
    ("purpose", "advice"),
    [
        ("Concept Fine-tune", "block mask"),
        ("ESD", "variant to x"),
        ("Diverse Inversion", "at_once to a small number"),
        ("Concept Inversion Attack", r"Lower at_once\."),
        ("Auto-Strength", "Connect a block mask"),
        ("Auto Block Mask", "fewer blocks"),
        ("Measure Interference", "fewer blocks"),
        ("UCE debias", "smaller weights"),
    ],
)
def test_the_advice_names_what_the_node_has(
    pack: Any, make_tiny_model: Make, purpose: str, advice: str
) -> None:
    from tverase_pack.nodes.host.model.denoiser import open_denoiser

    huge = 2**60
    with (
        pytest.raises(MemoryError, match=rf"^{purpose} needs about .* can be had\. .*{advice}"),
        open_denoiser(make_tiny_model(), huge, purpose=purpose),
    ):
        pass


@pytest.mark.training
def test_no_setting_of_a_node_makes_the_model_itself_fit(
    pack: Any, make_tiny_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tverase_pack.nodes.host.model.denoiser import open_denoiser
    from tverase_pack.nodes.host.training import fits

    model = make_tiny_model()
    monkeypatch.setattr(fits.comfy.model_management, "get_free_memory", lambda _: -1)
    with (
        pytest.raises(MemoryError, match=r"^Diverse Inversion needs .* smaller weights"),
        open_denoiser(model, 0, purpose="Diverse Inversion"),
    ):
        pass


class DynamicPatcher:
    """As newer hosts' MODELs are whose memory is managed dynamically (NVIDIA only)."""

    def __init__(self, answer: Exception):
        self._answer = answer

    def clone(self, disable_dynamic: bool = False) -> Any:
        assert disable_dynamic
        raise self._answer


def test_a_model_that_cannot_leave_dynamic_memory(pack: Any) -> None:
    from tverase_pack.nodes.host.model.denoiser import plain_clone

    words = "Cannot create non-dynamic delegate: cached_patcher_init is not initialized."
    with pytest.raises(
        BaseMismatchError,
        match=r"Load Checkpoint or Load Diffusion Model node, or start.*--disable-dyn",
    ):
        plain_clone(DynamicPatcher(RuntimeError(words)))
    with pytest.raises(RuntimeError, match="the loader's own trouble"):
        plain_clone(DynamicPatcher(RuntimeError("the loader's own trouble")))


@pytest.mark.training
@pytest.mark.parametrize("variant", ["x", "u"])
def test_esd_asks_for_room_for_its_weights_too(
    pack: Any,
    make_tiny_model: Make,
    tiny_clip: Any,
    monkeypatch: pytest.MonkeyPatch,
    variant: str,
) -> None:
    from tverase_pack.nodes.host.model import denoiser
    from tverase_pack.nodes.host.model.conditioning import encode_texts, to_context
    from tverase_pack.nodes.host.training.activations import gradient_bytes

    from host_support.host_steps import node, pictures

    model, asked = make_tiny_model(), []
    real = denoiser.open_denoiser
    monkeypatch.setattr(
        denoiser,
        "open_denoiser",
        lambda model, extra, **more: asked.append(extra) or real(model, extra, **more),
    )
    given = {**ESD_INPUTS, "variant": variant, "learning_rate": 1e-2}
    vector = node(pack, "ESD", model=model, clip=tiny_clip, concept_set=pictures(), **given)[0]
    moved = sum(delta.numel() for delta in vector.deltas.values())
    text = to_context(model, encode_texts(tiny_clip, ["a cat"]))
    shape = pictures().latents.shape[1:]
    activations = gradient_bytes(model, shape, text, given["batch_size"])
    assert moved > 10_000
    assert asked[0] - activations >= 16 * moved
    assert asked[0] - activations <= 16.5 * moved  # weights without a gradient do not move


@pytest.mark.training
def test_uce_tells_of_each_matrix(
    pack: Any, make_tiny_model: Make, tiny_clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tverase_pack.nodes.host.app import progress

    from host_support.host_steps import node

    told = []
    monkeypatch.setattr(progress.NodeProgress, "__call__", lambda self, *words: told.append(words))
    vector = node(pack, "UCE", model=make_tiny_model(), clip=tiny_clip, **UCE_INPUTS)[0]
    count = len(vector.deltas)
    assert count > 4
    *each, last = told
    assert [(done, total) for done, total, _ in each] == [(i + 1, count) for i in range(count)]
    assert last == (count, count, f"{count} matrices edited")


def test_texts_and_pictures_of_another_model_are_refused(pack: Any, make_tiny_model: Make) -> None:
    from tverase_pack.nodes.host.model.conditioning import to_context
    from tverase_pack.nodes.host.model.own_pictures import require_own_pictures

    from host_support.host_steps import pictures
    from tverase_core.concept_set import concept_set
    from tverase_core.errors import TextWidthError
    from tverase_core.ports import Context

    model, own = make_tiny_model(), pictures()
    with pytest.raises(TextWidthError, match="gives texts of width 33, the MODEL takes 32"):
        to_context(model, [{"cond": torch.zeros(1, 7, 33)}])
    require_own_pictures(model, own)
    wider = concept_set("cat", own.latents, Context(torch.zeros(1, 7, 33)))
    deeper = concept_set("cat", own.latents.repeat(1, 4, 1, 1), own.contexts)
    for other, told in ((wider, "texts of width 33"), (deeper, "16 latent channels")):
        with pytest.raises(BaseMismatchError, match=told):
            require_own_pictures(model, other)


def test_a_vector_of_a_text_encoder_goes_to_the_clip(pack: Any, make_tiny_model: Make) -> None:
    from host_support.edit_samples import BASE, TEXT_KEY
    from host_support.vector_steps import erase
    from tverase_core.vector.task_vector import TaskVector

    vector = TaskVector({TEXT_KEY: torch.ones(2, 2)}, BASE)
    with pytest.raises(BaseMismatchError, match="Use Apply Negated TV to CLIP"):
        erase(pack, make_tiny_model(), vector, 1.0)
