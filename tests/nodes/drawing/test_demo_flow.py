"""The second demo model, in the host's own classes."""

from __future__ import annotations

from typing import Any

import pytest
import torch


@pytest.fixture(scope="module")
def parts(pack: Any) -> Any:
    """MODEL, CLIP and VAE of `flow`."""
    from tverase_pack.nodes.demo_nodes import DemoModel
    from tverase_pack.tverase_core.errors import BaseMismatchError

    with torch.inference_mode():
        try:
            return DemoModel().load("flow")
        except BaseMismatchError as older:
            pytest.skip(str(older))


def test_it_is_a_flow_matching_transformer_of_z_images_class(parts: Any) -> None:
    import comfy.model_base
    import comfy.model_sampling
    from comfy.ldm.lumina.model import NextDiT

    model, sampling = parts[0].model, parts[0].get_model_object("model_sampling")
    assert isinstance(model, comfy.model_base.Lumina2)
    assert isinstance(model.diffusion_model, NextDiT)
    assert isinstance(sampling, comfy.model_sampling.CONST)
    assert sampling.shift == 1.0
    assert float(sampling.timestep(torch.tensor(0.25))) == 0.25


def test_every_weight_of_the_file_is_in_the_model(parts: Any) -> None:
    from safetensors.torch import load_file
    from tverase_pack.nodes.demo_nodes import MODEL_FOLDER

    stored = load_file(MODEL_FOLDER / "demo_flow.safetensors")
    loaded = parts[0].model.state_dict()
    networks = {name for name in loaded if name.startswith("diffusion_model.")}
    unused = {"diffusion_model.norm_final.weight"}  # no output has it; newer hosts left it out
    assert networks | unused == set(stored)
    assert all(torch.equal(loaded[name], stored[name].float()) for name in networks)


def test_it_is_shown_sixteen_states_of_the_first_models_tower(parts: Any, pack: Any) -> None:
    from tverase_pack.nodes.demo_nodes import DemoModel

    def states(clip: Any, text: str) -> torch.Tensor:
        return clip.encode_from_tokens(clip.tokenize(text))

    with torch.inference_mode():
        first = DemoModel().load()[1]
        short, whole = states(parts[1], "a cat"), states(first, "a cat")
        assert whole.shape[1] == 77
        assert torch.equal(short, whole[:, :16])
        # a longer prompt loses no word: 30 words between a start and an end mark
        assert states(parts[1], "cat " * 30).shape[1] == 32
        assert states(parts[1], "a (cat:1.3)").shape[1] == 16


def test_its_pictures_show_what_was_asked_for(parts: Any, comfy_host: Any) -> None:
    from tverase_pack.demo.judge_network import load_demo_judge
    from tverase_pack.nodes.demo_nodes import MODEL_FOLDER

    model, clip, vae = parts
    judge = load_demo_judge(MODEL_FOLDER / "demo_judge.safetensors")
    encode = comfy_host.nodes.CLIPTextEncode().encode
    with torch.inference_mode():
        positive, negative = encode(clip, "a clock")[0], encode(clip, "")[0]
        latent = {"samples": torch.zeros(8, 4, 8, 8)}
        settings = (model, 5, 16, 5.0, "euler", "simple", positive, negative, latent)
        drawn = vae.decode(comfy_host.nodes.common_ksampler(*settings)[0]["samples"])
    assert int((judge.score(drawn, "clock") >= 0.5).sum()) >= 7


def test_a_host_older_than_z_image_is_told_to_update(
    pack: Any, comfy_host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import comfy.model_base
    from tverase_pack.nodes.demo_nodes import DemoModel
    from tverase_pack.tverase_core.errors import BaseMismatchError

    with monkeypatch.context() as older:
        older.delattr(comfy.model_base, "Lumina2", raising=False)
        with pytest.raises(BaseMismatchError, match=r"Update ComfyUI to 0.3.75 .* choose `UNet`"):
            DemoModel().load("flow")
    lumina = pytest.importorskip("comfy.ldm.lumina.model")

    class Older:
        def __init__(self, patch_size: int, in_channels: int, dim: int):
            """As Lumina 2 came, without what Z-Image added."""

    monkeypatch.setattr(lumina, "NextDiT", Older)
    with pytest.raises(BaseMismatchError, match=r"NextDiT has no .*z_image_modulation"):
        DemoModel().load("flow")
