"""STEREO on the real host, with settings of seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from tverase_core.concept_set import ConceptSet, concept_set
from tverase_core.errors import ConfigError
from tverase_core.ports import Context

pytestmark = pytest.mark.training
TINY = {
    "rounds": 2,
    "prompts": "a cat\na photo of a cat",
    "erase_steps": 2,
    "erase_learning_rate": 1e-3,
    "attack_steps": 3,
    "attack_learning_rate": 5e-2,
    "final_steps": 2,
    "final_learning_rate": 1e-3,
    "batch_size": 2,
}


def pictures(unet: Mapping[str, Any]) -> ConceptSet:
    """Four pictures of noise for a model of this configuration."""
    latents = torch.randn((4, 4, 8, 8), generator=torch.Generator().manual_seed(5))
    sizes = unet["adm_in_channels"]  # SDXL's: of the pooled text and of six numbers
    extra = {"pooled_output": torch.zeros(1, sizes - 6 * 256)} if sizes else {}
    return concept_set("cat", latents, Context(torch.zeros(1, 7, unet["context_dim"]), extra))


def erased(pack: Any, model: Any, clip: Any, **changes: Any) -> dict[str, Any]:
    """The node's answer, run as the host runs it."""
    from tverase_pack.nodes.baselines.stereo import StereoNode

    from host_support.attack_steps import defaults

    given = defaults(StereoNode, **{**TINY, **changes})
    shown = pictures(model.model.model_config.unet_config)
    with torch.inference_mode():
        made = StereoNode().erase(model=model, clip=clip, concept_set=shown, **given)
    return dict(made)


@pytest.mark.parametrize("family", ["SD 1", "SDXL"])
def test_the_node_erases_and_leaves_the_model_alone(
    pack: Any, make_tiny_model: Any, tiny_clip: Any, family: str
) -> None:
    from host_support import attack_steps as world
    from host_support.host_steps import same, weights

    model, clip = world.tiny_sdxl() if family == "SDXL" else (make_tiny_model(), tiny_clip)
    before = weights(model)
    made = erased(pack, model, clip)
    (vector,) = made["result"]
    assert all(".attn2." in key for key in vector.deltas)
    assert all(float(delta.abs().max()) < 3e-3 for delta in vector.deltas.values())
    recipe = vector.provenance.recipe
    assert recipe["prompts"] == ["a cat", "a photo of a cat"]
    assert recipe["anchors"][0] == "a cat on a beach"
    assert len(recipe["attack_losses"]) == 2
    assert len(made["ui"]["images"]) == 2
    assert made["ui"]["text"][0].count("denoising loss") == 2
    assert same(weights(model), before)


def test_sentences_start_and_samples_are_the_widgets(
    pack: Any, make_tiny_model: Any, tiny_clip: Any
) -> None:
    from tverase_pack.nodes.baselines.stereo import stereo_config
    from tverase_pack.nodes.baselines.stereo_settings import STEREO_SETTINGS

    from tverase_core.inversion.config import RANDOM
    from tverase_core.sentences import STYLE_SENTENCES

    widgets = {
        name: spec[1]["default"]
        for name, spec in STEREO_SETTINGS.items()
        if name not in ("prompts", "anchors", "samples")
    }
    made = stereo_config({**widgets, "sentences": "style", "start": " "})
    assert (made.sentences, made.start) == (STYLE_SENTENCES, RANDOM)
    given = {"rounds": 1, "attack_steps": 1, "erase_steps": 1, "final_steps": 1}
    drawn, noised = (
        erased(pack, make_tiny_model(), tiny_clip, **given, samples=samples)["result"][0]
        for samples in ("drawn", "noised pictures")
    )
    assert not drawn.same_deltas(noised)


def test_the_defaults_are_those_of_the_released_code(pack: Any) -> None:
    from tverase_pack.nodes.baselines.stereo_settings import STEREO_SETTINGS

    from tverase_core.erasers.stereo_config import StereoConfig

    chosen = {name: spec[1]["default"] for name, spec in STEREO_SETTINGS.items()}
    right = StereoConfig()
    for name in chosen.keys() - {"prompts", "anchors", "sentences", "samples"}:
        assert chosen[name] == getattr(right, name), name


def test_mistakes_are_told_in_a_sentence(pack: Any, tiny_clip: Any, make_tiny_model: Any) -> None:
    model = make_tiny_model()
    for changes, words in (
        ({"anchors": " \n"}, "there is no anchor. Write sentences"),
        ({"rounds": 5}, "4 pictures for 5 rounds"),
        ({"template": "a cat"}, "template: expected exactly one"),
        ({"template": "a ({}:1.2)"}, "template: .*no brackets"),
        ({"start": "furry pet"}, "the start word 'furry pet' has 2 tokens, expected one"),
        ({"prompts": ""}, "There is no prompt"),
    ):
        with pytest.raises(ConfigError, match=words):
            erased(pack, model, tiny_clip, **changes)
