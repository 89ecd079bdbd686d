from __future__ import annotations

import gzip
import json

import pytest
import torch
from torch import Tensor

from host_support.fakes_choose import CONV, IN, MIDDLE, OUT, LinearDenoiser, latents, one_hot
from host_support.places import DATA
from host_support.tiny_core import tiny_schedule
from tverase_core.errors import ConfigError, EmptyMaskError
from tverase_core.masks.config import RankingConfig
from tverase_core.masks.probe import DenoiseProbe
from tverase_core.masks.ranking import BlockRanking, group_keys, rank_blocks
from tverase_core.model.layout import detect_layout
from tverase_core.model.mask_text import parse_mask

TRIGGERS, RETAINED = one_hot(0), one_hot(1, 2)


def column(axis: int, size: float) -> Tensor:
    made = torch.zeros(4, 4)
    made[:, axis] = size
    return made


def blank() -> LinearDenoiser:
    """All weights 0, so that only deltas speak and gains are hand-computed."""
    denoiser = LinearDenoiser()
    denoiser.base = {k: torch.zeros_like(v) for k, v in denoiser.base.items()}
    return denoiser


def ranked(deltas: dict[str, Tensor], config: RankingConfig | None = None) -> BlockRanking:
    denoiser = blank()
    groups = group_keys(deltas, denoiser.layout())
    return rank_blocks(
        denoiser, deltas, groups, latents(4), TRIGGERS, latents(4, 1), RETAINED, config
    )


# IN: only the trigger's axis. MIDDLE: the trigger's and the retained axes alike. OUT: only harm.
PLANTED = {
    IN: column(0, 4.0),
    MIDDLE: column(0, 4.0) + column(1, 4.0) + column(2, 4.0),
    OUT: column(1, 1.0),
}


def test_probes_lie_evenly_in_the_middle_four_fifths_of_the_schedule() -> None:
    probe = DenoiseProbe.draw(latents(2), tiny_schedule(steps=100), 4, seed=0)
    assert probe.timesteps.sort().values.tolist() == [20, 40, 60, 80]
    many = DenoiseProbe.draw(latents(2), tiny_schedule(steps=1000), 400, seed=0).timesteps
    assert (int(many.min()), int(many.max())) == (101, 899)
    assert torch.equal(probe.latents, latents(2).repeat(2, 1, 1, 1))
    again, other = (
        DenoiseProbe.draw(latents(2), tiny_schedule(steps=100), 4, seed=seed) for seed in (0, 1)
    )
    assert torch.equal(probe.noise, again.noise)
    assert not torch.equal(probe.noise, other.noise)


def test_groups_follow_the_layout() -> None:
    layout = LinearDenoiser().layout()
    groups = group_keys([OUT, CONV, IN, MIDDLE], layout)
    assert groups == {"IN01": (CONV, IN), "M00": (MIDDLE,), "OUT01": (OUT,)}
    finer = group_keys([CONV, IN], layout, by_kind=True)
    assert set(finer) == {"IN01/conv", "IN01/cross_attn"}


def test_planted_blocks_are_ranked_by_gain_per_damage() -> None:
    ranking = ranked(PLANTED)
    assert [ranking.blocks[i] for i in ranking.order] == ["IN01", "M00", "OUT01"]
    assert ranking.damage[0] == 0
    # The change is 4 in every channel of both retained rows, so its square is 16.
    assert ranking.damage[1] == pytest.approx(16)
    assert ranking.damage[2] == pytest.approx(0.5)
    # Both add -4 to every channel: the same gain, 16 plus a cross term with the noise.
    assert ranking.gain[0] == pytest.approx(ranking.gain[1])
    assert ranking.gain[0] == pytest.approx(16, abs=5)
    assert ranking.gain[2] == 0


def test_subset_is_the_shortest_that_reaches_the_fraction() -> None:
    assert ranked(PLANTED, RankingConfig(fraction=0.1)).chosen == ("IN01",)
    both = ranked(PLANTED, RankingConfig(fraction=0.9))
    assert both.chosen == ("IN01", "M00")
    assert both.share_of_gain == pytest.approx(1)
    assert both.prefix_gain[-1] == pytest.approx(both.prefix_gain[1])
    assert both.share_of_damage < 1


def test_a_harmless_block_comes_before_one_that_gains_more() -> None:
    ranking = ranked({IN: column(0, 2.0), MIDDLE: PLANTED[MIDDLE]})
    assert ranking.gain[0] < ranking.gain[1]
    assert [ranking.blocks[i] for i in ranking.order] == ["IN01", "M00"]


def test_the_vector_is_subtracted() -> None:
    """Weights of 1 become 2, so predictions of 2 where 1 was: 4 - 1 more squared error."""
    denoiser = blank()
    denoiser.base[IN] = column(0, 1.0)
    deltas = {IN: column(0, -1.0)}
    groups = group_keys(deltas, denoiser.layout())
    asked = denoiser, deltas, groups, latents(4), TRIGGERS, latents(4, 1), RETAINED
    assert rank_blocks(*asked).gain[0] == pytest.approx(3, abs=1)


def test_damage_is_measured_on_the_retained_latents() -> None:
    """A change by the latents themselves: their mean square, and that of some noise."""
    denoiser, deltas = blank(), {CONV: torch.eye(4)}
    groups = group_keys(deltas, denoiser.layout())
    kept = torch.full((4, 4, 2, 2), 10.0)
    ranking = rank_blocks(denoiser, deltas, groups, latents(4), TRIGGERS, kept, RETAINED)
    assert 10 < ranking.damage[0] < 110


def test_mask_keeps_exactly_the_chosen_weights() -> None:
    denoiser = blank()
    layout = denoiser.layout()
    deltas = {**PLANTED, CONV: torch.eye(4)}
    for by_kind in (False, True):
        groups = group_keys(deltas, layout, by_kind)
        ranking = rank_blocks(
            denoiser, deltas, groups, latents(4), TRIGGERS, latents(4, 1), RETAINED
        )
        mask = ranking.mask(groups, layout)
        kept = {key for name in ranking.chosen for key in groups[name]}
        assert {k for k in deltas if mask.coefficient(k, layout) == 1} == kept
        assert {k for k in deltas if mask.coefficient(k, layout) == 0} == set(deltas) - kept


@pytest.mark.parametrize("family", ["sd15", "sdxl", "flux_dev", "qwen_image"])
@pytest.mark.parametrize("share", [1, 3])
def test_kinds_of_real_models_make_a_mask_of_exactly_them(family: str, share: int) -> None:
    """Hundreds of names, more than one pattern of a mask may hold."""
    table = json.loads(gzip.decompress((DATA / "model_keys.json.gz").read_bytes()))
    keys = [key for key in table[family] if key.startswith("diffusion_model.")]
    layout = detect_layout(keys)
    groups = group_keys(keys, layout, by_kind=True)
    names = tuple(groups)
    ones, chosen = (1.0,) * len(names), names[::share]
    places = tuple(range(len(names)))
    found = BlockRanking(names, ones, ones, ones, places, ones, ones, chosen, 1.0)
    mask = found.mask(groups, layout)
    kept = {key for name in chosen for key in groups[name]}
    assert {key for key in keys if mask.coefficient(key, layout) == 1} == kept
    assert {key for key in keys if mask.coefficient(key, layout) == 0} == set(keys) - kept
    assert parse_mask(mask.to_text(), layout.blocks()) == mask


def test_repeatable_and_leaves_the_model_alone() -> None:
    denoiser = LinearDenoiser()
    before = {k: v.clone() for k, v in denoiser.base.items()}
    deltas = {k: torch.ones(4, 4) for k in before}
    groups = group_keys(deltas, denoiser.layout())
    runs = [
        rank_blocks(denoiser, deltas, groups, latents(2), TRIGGERS, latents(1), RETAINED)
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert all(torch.equal(before[k], denoiser.base[k]) for k in before)


def test_bad_input() -> None:
    with pytest.raises(EmptyMaskError, match="no weights"):
        ranked({})
    with pytest.raises(EmptyMaskError, match="does not raise"):
        ranked({OUT: column(1, 1.0)})
    with pytest.raises(ConfigError, match=r"strength.*fraction"):
        RankingConfig(strength=0, fraction=2)
    denoiser = blank()
    with pytest.raises(ConfigError, match="without a delta"):
        rank_blocks(denoiser, {}, {"IN01": (IN,)}, latents(1), TRIGGERS, latents(1), RETAINED)
