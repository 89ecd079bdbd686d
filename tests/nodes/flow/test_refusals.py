"""What no concept can be erased from in training, told by what it is, and exchanged schedules."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from host_support.tiny_flow import FAMILIES, build, pictures
from tverase_core.errors import BaseMismatchError, TextWidthError
from tverase_core.schedule import FlowSchedule


def advanced() -> Any:
    from comfy_extras import nodes_model_advanced

    return nodes_model_advanced


def renamed(name: str) -> Any:
    """A MODEL that is of that class of `comfy.model_base`, as far as anybody asks."""
    import comfy.model_base

    model = build("wan2.1")
    model.model.__class__ = getattr(comfy.model_base, name)
    return model


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("LTXV", r"makes videos \(LTXV\)"),
        ("HunyuanVideo", r"makes videos \(HunyuanVideo\)"),
        ("ACEStep", r"makes sound \(ACEStep\)"),
    ],
)
def test_models_that_draw_no_picture_are_refused_by_what_they_are(
    pack: Any, comfy_host: Any, name: str, words: str
) -> None:
    from tverase_pack.nodes.host.network.kinds import refuse_extra_inputs

    with pytest.raises(BaseMismatchError, match=f"{words}.*Expected a text-to-image model"):
        refuse_extra_inputs(renamed(name))


@pytest.mark.parametrize(
    ("node", "shift"),
    [
        (lambda model: advanced().ModelSamplingSD3().patch(model, 5.0), 5.0),
        (lambda model: advanced().ModelSamplingAuraFlow().patch_aura(model, 2.0), 2.0),
        (lambda model: advanced().ModelSamplingFlux().patch(model, 1.1, 1.1, 512, 512), 3.004),
    ],
    ids=["SD3", "AuraFlow", "Flux"],
)
def test_a_node_that_shifts_the_schedule_is_followed(
    pack: Any, comfy_host: Any, node: Any, shift: float
) -> None:
    from tverase_pack.nodes.host.network.schedule import schedule_of

    schedule = schedule_of(node(build("z-image"))[0])
    assert isinstance(schedule, FlowSchedule)
    assert schedule.shift == pytest.approx(shift, rel=1e-3)


def test_a_node_that_exchanges_the_schedule_is_told_to_go(pack: Any, comfy_host: Any) -> None:
    from tverase_pack.nodes.host.network.schedule import schedule_of

    exchanged = advanced().ModelSamplingDiscrete().patch(build("z-image"), "eps", False)[0]
    with pytest.raises(BaseMismatchError, match=r"flow-matching model.*Take that node out"):
        schedule_of(exchanged)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_encoder_of_another_family_is_refused(pack: Any, comfy_host: Any, family: str) -> None:
    from tverase_pack.nodes.host.model.conditioning import to_context

    if not hasattr(__import__("comfy.supported_models").supported_models, FAMILIES[family].config):
        pytest.skip(f"this ComfyUI does not know {FAMILIES[family].config}")
    with pytest.raises(TextWidthError, match="width 33, the MODEL takes 32"):
        to_context(build(family), [{"cond": torch.zeros(1, 7, 33)}])


def test_what_an_encoder_gives_beside_must_be_known_and_the_same_for_all(
    pack: Any, comfy_host: Any
) -> None:
    from tverase_pack.nodes.host.model.conditioning import to_context

    model, row = build("hunyuan-image"), torch.zeros(1, 4, 32)
    quoted = {"cond": row, "conditioning_byt5small": row}
    with pytest.raises(BaseMismatchError, match=r"conditioning_byt5small beside.*without quotes"):
        to_context(model, [quoted, {"cond": row}])
    for beside in (torch.arange(4), "words"):
        with pytest.raises(BaseMismatchError, match="gives t5xxl_ids beside the text"):
            to_context(model, [{"cond": row, "t5xxl_ids": beside}])


def test_pictures_of_another_family_are_refused(pack: Any, comfy_host: Any) -> None:
    from tverase_pack.nodes.host.model.own_pictures import require_own_pictures

    require_own_pictures(build("z-image"), pictures("z-image"))
    with pytest.raises(BaseMismatchError, match="made with another model: it has 8 latent"):
        require_own_pictures(build("z-image"), pictures("flux2"))
