from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from host_support.fakes_choose import CONV, IN, MIDDLE, OUT, LinearDenoiser, latents, one_hot
from tverase_core.erasers.esd import EsdConfig, EsdResult, esd
from tverase_core.erasers.teaching import VARIANTS, Variant, esd_keys, from_latents, from_sampling
from tverase_core.errors import ConfigError, EmptyConceptSetError, EmptyMaskError, NonFiniteError
from tverase_core.model.layout import detect_layout
from tverase_core.ports import Context

FAST = EsdConfig(steps=80, batch_size=4, learning_rate=0.02, seed=3)
CONCEPT, NULL = one_hot(0, 0), one_hot(-1)


def run(config: EsdConfig, denoiser: LinearDenoiser | None = None) -> EsdResult:
    denoiser = denoiser or LinearDenoiser()
    draw = from_latents(denoiser, latents(3))
    return esd(denoiser, denoiser.layout(), CONCEPT, NULL, draw, config)


@pytest.mark.parametrize("anchor", ["null", "concept"])
def test_loss_falls_and_the_erased_model_points_away(anchor: str) -> None:
    denoiser = LinearDenoiser()
    config = replace(FAST, anchor=anchor, eta=1.0 if anchor == "null" else 2.0)
    made = run(config, denoiser)
    assert made.losses[-1] < 0.01 * made.losses[0]
    x, times = latents(2), torch.tensor([3, 9])
    e_c = denoiser.predict(x, times, CONCEPT)
    e_0 = denoiser.predict(x, times, one_hot(-1, -1))
    with denoiser.attached(made.deltas) as attachment:
        attachment.scale = -1.0  # W - 1.0 * delta
        erased = denoiser.predict(x, times, CONCEPT)
    # Eta 2 from e(c) equals eta 1 from e(null): both aim at 2 e(null) - e(c).
    assert torch.allclose(erased, 2 * e_0 - e_c, atol=0.1)


def test_each_variant_moves_only_its_weights() -> None:
    assert set(run(FAST).deltas) == {IN, MIDDLE, OUT}
    assert set(run(replace(FAST, variant="u", steps=3)).deltas) == {CONV}
    assert set(run(replace(FAST, variant="full", steps=3)).deltas) == {CONV, IN, MIDDLE, OUT}
    layout = LinearDenoiser().layout()
    with pytest.raises(EmptyMaskError, match="ESD-x"):
        esd_keys({CONV: torch.Size((4, 4))}, layout, "x")


NAMES = {  # of a UNet's weights: what holds them, and its shape
    "time_embed.0": (8, 8),
    "input_blocks.0.0": (8, 4, 3, 3),
    "input_blocks.1.0.in_layers.0": (8,),
    "input_blocks.1.0.in_layers.2": (8, 8, 3, 3),
    "input_blocks.1.0.emb_layers.1": (8, 8),
    "input_blocks.1.1.norm": (8,),
    "input_blocks.1.1.proj_in": (8, 8),
    "input_blocks.1.1.transformer_blocks.0.norm2": (8,),
    "input_blocks.1.1.transformer_blocks.0.attn1.to_k": (8, 8),
    "input_blocks.1.1.transformer_blocks.0.attn2.to_q": (8, 8),
    "input_blocks.1.1.transformer_blocks.0.attn2.to_k": (8, 8),
    "input_blocks.1.1.transformer_blocks.0.attn2.to_v": (8, 8),
    "input_blocks.1.1.transformer_blocks.0.attn2.to_out.0": (8, 8),
    "input_blocks.1.1.transformer_blocks.0.ff.net.2": (8, 8),
    "out.0": (8,),
    "out.2": (4, 8, 3, 3),
}
ATTN2 = {name for name in NAMES if "attn2" in name}
NORMS = {name for name, shape in NAMES.items() if len(shape) == 1}
ENDS = {"time_embed.0", "input_blocks.0.0", "input_blocks.1.0.emb_layers.1", "out.2"}
VARIANT_PARTS = {
    "x": ATTN2,
    "x-strict": {name for name in ATTN2 if name.endswith(("to_k", "to_v"))},
    "selfattn": {name for name in NAMES if "attn1" in name},
    "u": set(NAMES) - NORMS - ATTN2,
    "full": set(NAMES) - NORMS,
}


def unet(*more: str) -> dict[str, torch.Size]:
    shapes = {}
    for name in (*NAMES, *more):
        shape = torch.Size(NAMES.get(name, (8, 8)))
        shapes[f"diffusion_model.{name}.weight"] = shape
        shapes[f"diffusion_model.{name}.bias"] = shape[:1]
    return shapes


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_variants_are_those_of_the_published_code(variant: Variant) -> None:
    """Linear maps and convolutions with their biases, by the names of their modules; norms never,
    and of SDXL, which has class embeddings, neither embeddings nor the two ends."""
    shapes = unet()
    wanted = VARIANT_PARTS[variant]
    keys = esd_keys(shapes, detect_layout(shapes), variant)
    assert {key.split(".", 1)[1].rpartition(".")[0] for key in keys} == wanted
    assert len(keys) == 2 * len(wanted) or variant == "x-strict"  # keys and values have no bias
    large = unet("label_emb.0.0")
    keys = esd_keys(large, detect_layout(large), variant)
    assert {key.split(".", 1)[1].rpartition(".")[0] for key in keys} == wanted - ENDS


def test_erased_from_a_text_the_rest_of_it_stays() -> None:
    """Eta 2: e(from) - 2 (e(c) - e(null)) under `erase_from`, whose prediction is e(c) and more."""
    denoiser, cat = LinearDenoiser(), one_hot(0)
    both = Context(cat.tokens + one_hot(2).tokens)
    draw = from_latents(denoiser, latents(3))
    given = (denoiser, denoiser.layout(), cat, NULL, draw)
    made = esd(*given, replace(FAST, steps=200), erase_from=both)
    assert made.losses[-1] < 0.01 * made.losses[0]
    x, times = latents(1), torch.tensor([3])
    e_c, e_0, e_from = (denoiser.predict(x, times, text) for text in (cat, NULL, both))
    with denoiser.attached(made.deltas) as attachment:
        attachment.scale = -1.0  # W - 1.0 * delta
        erased = denoiser.predict(x, times, both)
    assert torch.allclose(erased, e_from - 2 * (e_c - e_0), atol=0.1)
    with pytest.raises(ConfigError, match="a text to erase from for each of 1 prompts, got 2"):
        esd(*given, FAST, erase_from=one_hot(1, 2))
    with pytest.raises(ConfigError, match="Set anchor to 'concept', and eta to 2"):
        esd(*given, replace(FAST, anchor="null"), erase_from=both)


def test_the_noised_pictures_are_of_the_text_that_is_shown() -> None:
    """With several prompts each sample's x_t comes from its own."""
    denoiser, seen = LinearDenoiser(), []
    prompts, shown = one_hot(0, 1), one_hot(2, 3)

    def draw(texts: Context, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        seen.append(texts.tokens)
        return latents(len(texts.tokens)), torch.zeros(len(texts.tokens), dtype=torch.int64)

    class Recorder(LinearDenoiser):
        def predict(self, x_t: Tensor, timesteps: Tensor, context: Context) -> Tensor:
            asked.append(context.tokens)
            return super().predict(x_t, timesteps, context)

    asked: list[Tensor] = []
    denoiser = Recorder()
    esd(denoiser, denoiser.layout(), prompts, NULL, draw, replace(FAST, steps=6), erase_from=shown)
    assert len(seen) == 6
    for step, texts in enumerate(seen):
        named, _, start, student = asked[4 * step : 4 * step + 4]
        assert torch.equal(texts, student)
        assert torch.equal(start, student)
        assert torch.equal(named.argmax(-1) + 2, student.argmax(-1))  # the row's own prompt


def test_equal_seeds_equal_bits_and_the_base_stays() -> None:
    denoiser = LinearDenoiser()
    before = {k: v.clone() for k, v in denoiser.base.items()}
    first, second = run(FAST, denoiser), run(FAST, denoiser)
    assert first.losses == second.losses
    assert all(torch.equal(first.deltas[k], second.deltas[k]) for k in first.deltas)
    assert run(replace(FAST, seed=4)).losses != first.losses
    assert all(torch.equal(before[k], denoiser.base[k]) for k in before)


def test_partly_sampled_pictures_serve_as_well() -> None:
    denoiser = LinearDenoiser()
    draw = from_sampling(denoiser, NULL, (4, 2, 2), sample_steps=5)
    times = set()
    for seed in range(12):
        x, t = draw(one_hot(0, 0), torch.Generator().manual_seed(seed))
        assert x.shape == (2, 4, 2, 2)
        assert bool(x.isfinite().all())
        times.update(t.tolist())
    assert times <= {19, 14, 10, 5, 0}
    assert len(times) > 2
    made = esd(denoiser, denoiser.layout(), CONCEPT, NULL, draw, FAST)
    assert made.losses[-1] < 0.1 * made.losses[0]


class Same:
    """Predicts noise of 1 under the concept and of 0.25 without it, whatever it sees."""

    schedule, device = LinearDenoiser().schedule, torch.device("cpu")

    def predict(self, x_t: Tensor, timesteps: Tensor, context: Context) -> Tensor:
        return context.tokens[:, :1, :1, None].clamp(min=0.25).expand(x_t.shape)


def test_partly_sampled_pictures_by_hand() -> None:
    """arXiv 2010.02502, eq. 12 with sigma 0, under guidance 3: noise of 0.25 + 3 * 0.75."""
    draw = from_sampling(Same(), NULL, (1, 2, 2), guidance=3.0, sample_steps=4)
    table, ladder, stops = Same.schedule.alphas_cumprod, [19, 13, 6, 0], set()
    for seed in range(8):
        x, times = draw(one_hot(0, 0), torch.Generator().manual_seed(seed))
        expected = torch.randn((2, 1, 2, 2), generator=torch.Generator().manual_seed(seed)).double()
        stop = ladder.index(int(times[0]))
        for now, then in itertools.pairwise(table[ladder[: stop + 1]]):
            clean = (expected - (1 - now).sqrt() * 2.5) / now.sqrt()
            expected = then.sqrt() * clean + (1 - then).sqrt() * 2.5
        torch.testing.assert_close(x.double(), expected, rtol=1e-4, atol=1e-4)
        stops.add(stop)
    assert len(stops) > 2


def test_works_inside_inference_mode() -> None:
    with torch.inference_mode():
        assert run(replace(FAST, steps=2)).losses


def test_cancelling_detaches() -> None:
    denoiser = LinearDenoiser()

    class StopError(Exception):
        pass

    def stop(done: int, total: int, message: str) -> None:
        if done == 2:
            raise StopError

    draw = from_latents(denoiser, latents(1))
    with pytest.raises(StopError):
        esd(denoiser, denoiser.layout(), CONCEPT, NULL, draw, FAST, stop)
    assert not denoiser._attached


def test_bad_input() -> None:
    denoiser = LinearDenoiser()
    with pytest.raises(ConfigError, match=r"variant.*steps"):
        EsdConfig(variant="y", steps=0)  # type: ignore[arg-type]
    with pytest.raises(EmptyConceptSetError):
        from_latents(denoiser, latents(0))
    draw = from_latents(denoiser, latents(1) * float("nan"))
    with pytest.raises(NonFiniteError, match="step 1 of"):
        esd(denoiser, denoiser.layout(), CONCEPT, NULL, draw, FAST)
    with pytest.raises(ConfigError, match="one empty prompt"):
        esd(denoiser, denoiser.layout(), CONCEPT, one_hot(-1, -1), draw, FAST)
