"""Pictures are what the stock KSampler draws, each under its own prompt and seed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tverase_core.errors import ConfigError
from tverase_core.ports import Context


def drawn(model: Any, context: Context, seeds: list[int], **changes: Any) -> torch.Tensor:
    from tverase_pack.nodes.host.drawing.sampling import SamplerSettings, sample_latents

    settings = SamplerSettings(4, 3.0, "euler", "normal", 64, 64)
    with torch.inference_mode():
        return sample_latents(model, context, texts()[2], seeds, replace(settings, **changes))


def texts() -> tuple[Context, Context, Context]:
    source = torch.Generator().manual_seed(1)
    first, second, empty = torch.randn(3, 1, 7, 32, generator=source)
    return Context(first), Context(second), Context(empty)


def test_one_picture_is_the_stock_samplers(pack: Any, comfy_host: Any, tiny_model: Any) -> None:
    prompt, _, empty = texts()
    with torch.inference_mode():
        (stock,) = comfy_host.nodes.KSampler().sample(
            tiny_model, 5, 4, 3.0, "euler", "normal",
            [[prompt.tokens, {}]], [[empty.tokens, {}]], {"samples": torch.zeros(1, 4, 8, 8)},
        )  # fmt: skip
    got = drawn(tiny_model, prompt, [5])
    torch.testing.assert_close(got, stock["samples"].float(), rtol=1e-4, atol=1e-4)
    swapped = drawn(tiny_model, empty, [5])
    assert not torch.allclose(swapped, got, atol=1e-2)


@pytest.mark.parametrize("batch", [1, 2, 16])
def test_every_row_has_its_own_prompt_and_seed(pack: Any, tiny_model: Any, batch: int) -> None:
    first, second, _ = texts()
    rows = Context(torch.cat([first.tokens, second.tokens, first.tokens]))
    together = drawn(tiny_model, rows, [5, 5, 6], batch=batch)
    alone = [
        drawn(tiny_model, text, [seed]) for text, seed in ((first, 5), (second, 5), (first, 6))
    ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(alone[0], alone[1], atol=1e-2)
    assert not torch.allclose(alone[0], alone[2], atol=1e-2)


@pytest.mark.parametrize(
    ("has", "fast"),
    [
        ({"cpu_name": "Intel(R) Xeon(R)", "amx_tile": True, "avx512_bf16": True}, True),
        ({"cpu_name": "Intel(R) Xeon(R)", "amx_tile": False, "avx512_bf16": True}, False),
        ({"cpu_name": "AMD EPYC", "amx_tile": False, "avx512_bf16": True}, True),
        ({"cpu_name": "AMD Ryzen", "avx512_bf16": False}, False),
        ({"architecture": "aarch64"}, False),
    ],
)
def test_which_processors_are_fast_in_bfloat16(
    pack: Any, comfy_host: Any, monkeypatch: Any, has: dict[str, Any], fast: bool
) -> None:
    from tverase_pack.nodes.host.model import numerics

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has, raising=False)
    assert numerics.has_fast_bfloat16(torch.device("cpu")) == fast
    assert not numerics.has_fast_bfloat16(torch.device("cuda"))


@pytest.mark.training
def test_the_fast_way_draws_the_same(pack: Any, tiny_model: Any, monkeypatch: Any) -> None:
    """bfloat16 has 8 bits, so latents agree to a few hundredths. Only float32 models have one."""
    from tverase_pack.nodes.host.model import denoiser as host_denoiser
    from tverase_pack.nodes.host.model import numerics

    monkeypatch.setattr(numerics, "has_fast_bfloat16", lambda device: True)
    found = []
    for fast in (False, True):
        with host_denoiser.open_denoiser(tiny_model, autocast=fast) as denoiser:
            found.append(drawn(denoiser.patcher, texts()[0], [5]))
    exact, fast_one = found
    assert float((exact - fast_one).norm() / exact.norm()) < 0.08
    assert torch.equal(exact, fast_one) == (tiny_model.model.get_dtype() == torch.float16)


@pytest.mark.training
def test_kept_sums_are_those_of_the_deltas_at_work(
    pack: Any, make_tiny_model: Any, monkeypatch: Any
) -> None:
    """Strengths and deltas that change between passes give what a fresh denoiser gives."""
    from tverase_pack.nodes.host.model import denoiser as host_denoiser
    from tverase_pack.nodes.host.model import numerics

    monkeypatch.setattr(numerics, "has_fast_bfloat16", lambda device: True)
    model = make_tiny_model(storage=torch.float32)  # only such models compute the fast way
    source = torch.Generator().manual_seed(3)
    x, context = torch.randn(1, 4, 8, 8, generator=source), texts()[0]

    def found(denoiser: Any, deltas: Any, scales: Any) -> list[torch.Tensor]:
        made = []
        with torch.no_grad(), denoiser.attached(deltas) as attachment:
            for scale in scales:
                attachment.scale = scale
                made.append(denoiser.predict(x, torch.tensor([500]), context))
        return made

    with host_denoiser.open_denoiser(model, autocast=True) as denoiser:
        shapes = denoiser.weight_shapes()
        first, second = (
            {k: torch.randn(s, generator=source) * 0.05 for k, s in shapes.items()}
            for _ in range(2)
        )
        scales = (1.0, -0.5, -0.5, 0.0, 1.0)
        made = [*found(denoiser, first, scales), *found(denoiser, second, scales)]
    assert not torch.equal(made[0], made[1])
    for number, one in enumerate(made):
        with host_denoiser.open_denoiser(model, autocast=True) as denoiser:
            deltas = first if number < len(scales) else second
            fresh = found(denoiser, deltas, [scales[number % len(scales)]])
        assert torch.equal(one, fresh[0]), number


def test_decoded_pictures_lie_in_0_to_1_and_the_model_is_brought_back(
    pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A VAE gives what it likes, has the model pushed out, and may add a fourth channel."""
    from tverase_pack.nodes.host.drawing.studio import HostSampler

    done: list[str] = []

    class Vae:
        def decode(self, latents: torch.Tensor) -> torch.Tensor:
            done.append("decoded")
            return torch.tensor([-0.5, 0.25, 1.5, 9.0]).half().expand(len(latents), 2, 2, 4)

    class Denoiser:
        def ensure_loaded(self) -> None:
            done.append("loaded")

    monkeypatch.setattr(HostSampler, "latents", lambda *_: torch.zeros(3, 4, 1, 1))
    pictures = HostSampler(Denoiser(), Vae(), None, None).images(None, [1, 2, 3])
    assert (pictures.dtype, tuple(pictures.shape)) == (torch.float32, (3, 2, 2, 3))
    assert pictures[0, 0, 0].tolist() == [0.0, 0.25, 1.0]
    assert done == ["decoded", "loaded"]


def test_a_model_that_a_judge_pushed_out_is_brought_back_before_it_draws(
    pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sampler would load it in part, and then without its LoRA."""
    from types import SimpleNamespace

    from tverase_pack.nodes.host.drawing import studio

    done: list[str] = []
    denoiser = SimpleNamespace(ensure_loaded=lambda: done.append("loaded"), patcher=None)
    monkeypatch.setattr(studio, "sample_latents", lambda *_: done.append("drawn"))
    studio.HostSampler(denoiser, None, None, None).latents(None, [1])
    assert done == ["loaded", "drawn"]


@pytest.mark.parametrize("cfg", [float("nan"), float("inf"), -1.0])
def test_guidance_that_is_no_number_is_refused(pack: Any, cfg: float) -> None:
    """ComfyUI's own limits let NaN through."""
    from tverase_pack.nodes.host.drawing.sampling import SamplerSettings

    with pytest.raises(ConfigError, match="cfg: expected a finite number >= 0"):
        SamplerSettings(4, cfg, "euler", "simple", 64, 64)
