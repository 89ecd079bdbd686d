"""`bench digits` at a tiny size: made-up digits, the same code."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.digit_parts.classes import ClassEncoder, grid, spread_directions
from bench.digit_parts.denoiser import DigitDenoiser, random_weights
from bench.digit_parts.digits import Digits, Latents
from bench.digit_parts.drawing import DigitJudge, accuracy
from bench.digit_parts.job import one_seed
from bench.digit_parts.methods import METHODS
from bench.digit_parts.page import named, text, write_page
from bench.digit_parts.settings import Settings
from bench.digit_parts.summary import GAPS, ROWS, digit_figures
from devtools.figures import figures_document, read_figures
from host_support.places import ROOT
from tverase_core import detect_layout
from tverase_core.errors import JudgeError
from tverase_core.ports import Context

KEPT = ROOT / "bench" / "results" / "digits"
RESULT = ROOT / "bench" / "results" / "digits.json"
TINY = Settings(
    base_steps=150,
    base_batch=64,
    tune_steps=4,
    tune_batch=8,
    sampling_steps=3,
    inversions=2,
    inversion_steps=2,
    esd_steps=2,
    esd_batch=2,
    attack_steps=2,
    prune_draws=4,
    draws=2,
    most_n=2,
    kept_draws=4,
    strength_step=4.0,
)


class NearestShape(torch.nn.Module):
    """Logits by nearness to each digit's shape; blind: always the same digit."""

    def __init__(self, shapes: Tensor, blind: int | None = None):
        super().__init__()
        self.shapes, self.blind = shapes.flatten(1), blind

    def forward(self, pictures: Tensor) -> Tensor:
        near = -torch.cdist(pictures.flatten(1), self.shapes)
        if self.blind is not None:
            near[:, self.blind] = 1e4
        return near


@pytest.fixture(scope="module")
def made_up() -> tuple[Digits, Tensor]:
    """200 noisy pictures of ten shapes, and the shapes."""
    source = torch.Generator().manual_seed(0)
    coarse = torch.rand(10, 1, 7, 7, generator=source).round() * 2 - 1
    shapes = torch.nn.functional.interpolate(coarse, (14, 14))
    labels = torch.arange(10).repeat(20)
    noise = 0.1 * torch.randn(200, 1, 14, 14, generator=source)
    return Digits((shapes[labels] + noise).clamp(-1, 1), labels), shapes


@pytest.fixture(scope="module")
def result(made_up: tuple[Digits, Tensor]) -> dict[str, Any]:
    """One tiny seed, as its file has it."""
    digits, shapes = made_up
    judge = DigitJudge(NearestShape(shapes))
    assert accuracy(judge, digits) == 1
    found = one_seed(TINY, 3, digits, judge)
    return json.loads(json.dumps({**found, "judge": {"accuracy": 1.0, "tested": 200}}))


def test_a_grid_of_n_has_n_to_the_fourth_unit_directions_but_the_origin() -> None:
    assert [len(grid(n)) for n in (1, 2, 3, 4)] == [1, 15, 81, 255]
    assert torch.equal(grid(1), torch.full((1, 4), -0.5))
    assert bool((grid(2) <= 0).all())  # the authors leave the upper end out
    for n in (1, 2, 3, 4):
        torch.testing.assert_close(grid(n).norm(dim=1), torch.ones(len(grid(n))))


def test_labels_and_found_vectors_are_on_the_sphere_and_no_label_is_the_origin() -> None:
    encoder = ClassEncoder(spread_directions(1))
    cosines = encoder.directions @ encoder.directions.T
    torch.testing.assert_close(cosines.diagonal(), torch.ones(10))
    assert float((cosines - 2 * torch.eye(10)).max()) < 0.5
    assert not bool(encoder.encode([""]).tokens.any())
    found = encoder.encode_with({"class": torch.full((2, 1, 4), 3.0)}, "{}")
    assert torch.equal(found.tokens, torch.full((2, 1, 4), 0.5))


def test_the_denoiser_computes_with_deltas_and_goes_back_to_the_bit() -> None:
    weights = {key: value + 0.1 for key, value in random_weights(0).items()}
    denoiser = DigitDenoiser(weights)
    source = torch.Generator().manual_seed(1)
    deltas = {k: 0.1 * torch.randn(v.shape, generator=source) for k, v in weights.items()}
    asked = (
        torch.randn(3, 1, 8, 8, generator=source),
        torch.tensor([0, 500, 999]),
        Context(torch.randn(3, 1, 4, generator=source)),
    )
    before = denoiser.predict(*asked)
    with denoiser.attached(deltas) as attachment:
        attachment.scale = -2.0
        edited = denoiser.predict(*asked)
    meant = DigitDenoiser({k: v - 2.0 * deltas[k] for k, v in weights.items()})
    assert torch.equal(edited, meant.predict(*asked))
    assert torch.equal(denoiser.predict(*asked), before)
    layout = detect_layout(weights)
    assert {layout.kind(k) for k in weights} >= {"cross_attn", "ff", "embed"}


def test_latents_of_few_shapes_lose_nothing(made_up: tuple[Digits, Tensor]) -> None:
    shapes = made_up[1]
    latents = Latents(shapes.repeat(8, 1, 1, 1))
    torch.testing.assert_close(latents.decode(latents.encode(shapes)), shapes, atol=1e-4, rtol=0)


def test_a_seed_counts_every_method_at_its_strengths(result: dict[str, Any]) -> None:
    assert list(result["methods"]) == list(METHODS)
    assert result["base"]["plain"] >= 2  # the made-up world is learned
    assert sum(result["base"]["kept"]) >= 18
    for found in result["methods"].values():
        assert f"{found['tuned']['strength']:g}" in found["counts"]
        for counts in found["counts"].values():
            assert len(counts["worst"]) == 2
            assert all(0 <= count <= TINY.draws for count in [*counts["worst"], counts["attack"]])
            assert len(counts["kept"]) == 9


def test_figures_are_means_over_seeds(result: dict[str, Any]) -> None:
    other = json.loads(json.dumps(result))
    other["base"]["worst"] = [0, 0]
    other["methods"]["tv"]["tuned"]["strength"] = 1.9
    figures = digit_figures([result, other])
    worst, own = result["base"]["worst"][1], result["methods"]["tv"]["tuned"]["strength"]
    assert worst > 0
    assert figures["base_worst_n2"].value == worst / 2
    assert figures["base_worst_n2"].interval == (0.0, float(worst))
    assert figures["tv_strength"].value == pytest.approx((own + 1.9) / 2)
    assert figures["base_attack"].n == 2
    kept = sum(result["methods"]["tv"]["counts"]["1.9"]["kept"])
    assert figures["tv_at_1_9_kept"].value == kept / sum(result["base"]["kept"])


def test_the_page_has_every_row_and_says_what_is_not_shown(
    result: dict[str, Any], tmp_path: Path
) -> None:
    figures = digit_figures([result, result])
    document = figures_document("digits", "command", "2026-01-01", {}, figures)
    (tmp_path / "images").mkdir()
    write_page(tmp_path / "digits.md", tmp_path / "images", document, [result, result])
    page = (tmp_path / "digits.md").read_text("utf-8")
    assert all(f"| {named(row)} |" in page for row in ROWS)
    assert "| *published* | 4.5 | 5 |" in page
    for worse, better in GAPS:
        met = [n for n in (1, 2) if figures[f"{worse}_minus_{better}_n{n}"].met()]
        told = f"- {named(worse)}, minus {named(better)}, "
        line = next(line for line in page.split("\n") if line.startswith(told))
        assert (f"shown at n = {', '.join(map(str, met))}**" if met else "not shown**") in line
    assert (tmp_path / "images" / "digits_curve.png").stat().st_size > 1000


def test_the_page_quotes_the_committed_seeds() -> None:
    files = sorted(KEPT.glob("seed-*.json"), key=lambda path: int(path.stem.split("-")[1]))
    if not RESULT.exists():
        pytest.skip("not measured yet: `python dev.py bench digits`")
    results = [json.loads(path.read_text("utf-8")) for path in files]
    document = read_figures(RESULT)
    assert document["figures"] == json.loads(
        json.dumps({name: figure.to_dict() for name, figure in digit_figures(results).items()})
    )
    assert (ROOT / "docs" / "digits.md").read_text("utf-8") == text(document, results)


def test_a_judge_that_does_not_see_the_base_is_refused(made_up: tuple[Digits, Tensor]) -> None:
    digits, shapes = made_up
    with pytest.raises(JudgeError, match="seed 3: the judge sees a 0 in 0 of 4"):
        one_seed(TINY, 3, digits, DigitJudge(NearestShape(shapes, blind=7)))


def test_other_settings_are_another_result() -> None:
    assert dataclasses.replace(TINY, draws=3).digest() != TINY.digest()
    assert Settings().digest() == Settings().digest()
