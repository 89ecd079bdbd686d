"""Few-shot Unlearning on a linear denoiser and a text encoder of two small layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from host_support.fakes_choose import WIDTH, LinearDenoiser, Scale, latents
from tverase_core.erasers.few_shot import (
    FewShotConfig,
    FewShotResult,
    captioned,
    few_shot,
    few_shot_keys,
    random_latents,
)
from tverase_core.errors import (
    ConfigError,
    EmptyConceptSetError,
    EmptyMaskError,
    NonFiniteError,
)
from tverase_core.ports import Context
from tverase_core.schedule import NoiseSchedule
from tverase_core.sentences import SENTENCES

LAYER = "text_encoders.clip_{}.transformer.text_model.encoder.layers.{}.{}"
TABLE = "text_encoders.clip_l.transformer.text_model.embeddings.token_embedding.weight"
MLP = ("mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias")
FAST = FewShotConfig(epochs=30, batch_size=4, learning_rate=0.01, seed=3)
CAPTIONS = ("a cat", "the cat")


def layer(number: int, name: str) -> str:
    return LAYER.format("l", number, name)


class LayeredEncoder:
    """x -> x + fc2 tanh(fc1 x + b1) + b2, then the attention's q, in each of two layers.

    deaf: leave out the last layer's attention, as a clip skip does.
    """

    device = torch.device("cpu")

    def __init__(self, deaf: bool = False):
        source = torch.Generator().manual_seed(7)
        shapes = {TABLE: (8, WIDTH)}
        for number in (0, 1):
            shapes |= {layer(number, name): (WIDTH, WIDTH)[: 1 + (name[-1] == "t")] for name in MLP}
            shapes[layer(number, "self_attn.q_proj.weight")] = (WIDTH, WIDTH)
            shapes[layer(number, "layer_norm1.weight")] = (WIDTH,)
        self.base = {k: 0.5 * torch.randn(s, generator=source) for k, s in shapes.items()}
        self.deaf, self._deltas, self._handle = deaf, {}, Scale()

    def weight_shapes(self) -> Mapping[str, torch.Size]:
        return {key: value.shape for key, value in self.base.items()}

    @contextmanager
    def attached(self, deltas: Mapping[str, Tensor]) -> Iterator[Scale]:
        self._deltas, self._handle = dict(deltas), Scale()
        try:
            yield self._handle
        finally:
            self._deltas = {}

    def _weight(self, key: str) -> Tensor:
        if key in self._deltas:
            return self.base[key] + self._handle.scale * self._deltas[key]
        return self.base[key]

    def encode(self, texts: Sequence[str]) -> Context:
        x = self._weight(TABLE)[[len(text) % 8 for text in texts]]
        for number in (0, 1):
            fc1, b1, fc2, b2 = (self._weight(layer(number, name)) for name in MLP)
            x = x + torch.tanh(x @ fc1.T + b1) @ fc2.T + b2
            if not (self.deaf and number == 1):
                x = x @ self._weight(layer(number, "self_attn.q_proj.weight")).T
        return Context(x[:, None])


def run(
    config: FewShotConfig = FAST,
    encoder: LayeredEncoder | None = None,
    denoiser: LinearDenoiser | None = None,
    **more: object,
) -> FewShotResult:
    return few_shot(
        denoiser or LinearDenoiser(),
        encoder or LayeredEncoder(),  # type: ignore[arg-type]
        latents(3),
        CAPTIONS,
        config,
        **more,  # type: ignore[arg-type]
    )


def error_of(encoder: LayeredEncoder, deltas: Mapping[str, Tensor], scale: float) -> float:
    """The denoising loss of the concept's pictures, over all timesteps, with scale * deltas."""
    denoiser, source = LinearDenoiser(), torch.Generator().manual_seed(11)
    times = torch.arange(len(denoiser.schedule)).repeat(3)
    clean = latents(3).repeat_interleave(len(denoiser.schedule), 0)
    noise = torch.randn(clean.shape, generator=source)
    x_t = denoiser.schedule.add_noise(clean, noise, times)
    with encoder.attached(deltas) as attachment:
        attachment.scale = scale
        made = denoiser.predict(x_t, times, encoder.encode(["a cat"] * len(times)))
    return float((made - noise).square().mean())


def test_subtracting_raises_the_concepts_loss_and_adding_lowers_it() -> None:
    encoder = LayeredEncoder()
    deltas = run(replace(FAST, learning_rate=1e-4), encoder).by_epoch[-1]
    base = error_of(encoder, deltas, 0.0)
    assert error_of(encoder, deltas, -1.0) > base > error_of(encoder, deltas, 1.0)
    assert error_of(encoder, run(encoder=encoder).by_epoch[-1], -1.0) > 10 * base  # W - 1.0 * delta


def test_the_loss_rises() -> None:
    losses = run(replace(FAST, epochs=60)).losses
    assert sum(losses[-20:]) > 2 * sum(losses[:20])


def test_the_first_step_of_adam_is_as_long_as_the_learning_rate() -> None:
    """m / sqrt(v) of one gradient is its sign, but where it is not far above epsilon."""
    made = run(FewShotConfig(epochs=1, batch_size=3, learning_rate=1e-3))
    moved = torch.cat([delta.flatten() for delta in made.by_epoch[-1].values()]).abs()
    assert float(moved.max()) <= 1e-3 * (1 + 1e-6)
    assert float((moved > 0.98e-3).float().mean()) > 0.9


def test_what_is_trained() -> None:
    trained = {layer(n, name) for n in (0, 1) for name in MLP}
    trained.add(layer(1, "self_attn.q_proj.weight"))
    encoder = LayeredEncoder()
    assert few_shot_keys(encoder.weight_shapes()) == sorted(trained)
    assert set(run(encoder=encoder).by_epoch[-1]) == trained
    deaf = run(encoder=LayeredEncoder(deaf=True)).by_epoch[-1]
    assert trained - set(deaf) == {layer(1, "self_attn.q_proj.weight")}  # nothing reads it


def test_each_tower_has_a_last_layer_of_its_own() -> None:
    keys = [
        LAYER.format(tower, n, f"{part}.bias")
        for tower, count in (("l", 12), ("g", 32))
        for n in range(count)
        for part in ("mlp.fc1", "self_attn.k_proj")
    ]
    attention = [key for key in few_shot_keys(keys) if "self_attn" in key]
    assert attention == [
        LAYER.format("g", 31, "self_attn.k_proj.bias"),
        LAYER.format("l", 11, "self_attn.k_proj.bias"),
    ]
    assert len(few_shot_keys(keys)) == 12 + 32 + 2


def test_sd1_trains_59_million_weights() -> None:
    """As many as the authors' code does."""
    d, hidden, sizes = 768, 3072, {}
    for n in range(12):
        for name, shape in (("mlp.fc1", (hidden, d)), ("mlp.fc2", (d, hidden))):
            sizes[layer(n, f"{name}.weight")] = hidden * d
            sizes[layer(n, f"{name}.bias")] = shape[0]
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            sizes[layer(n, f"self_attn.{name}.weight")] = d * d
            sizes[layer(n, f"self_attn.{name}.bias")] = d
        sizes[layer(n, "layer_norm1.weight")] = d
    assert sum(sizes[key] for key in few_shot_keys(sizes)) == 59_031_552


def test_other_text_encoders_are_refused() -> None:
    t5 = "text_encoders.t5xxl.transformer.encoder.block.0.layer.1.DenseReluDense.wo.weight"
    unet = "diffusion_model.text_model.encoder.layers.0.mlp.fc1.weight"
    with pytest.raises(EmptyMaskError, match="no CLIP layer"):
        few_shot_keys([t5, unet, TABLE])


def test_equal_seeds_equal_bits_and_the_base_stays() -> None:
    encoder, denoiser = LayeredEncoder(), LinearDenoiser()
    before = {k: v.clone() for k, v in {**encoder.base, **denoiser.base}.items()}
    first, second = (run(encoder=encoder, denoiser=denoiser) for _ in range(2))
    assert first.losses == second.losses
    mine, theirs = first.by_epoch[-1], second.by_epoch[-1]
    assert all(torch.equal(mine[k], theirs[k]) for k in mine)
    assert run(replace(FAST, seed=4)).losses != first.losses
    after = {**encoder.base, **denoiser.base}
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert not encoder._deltas


def test_every_picture_is_seen_once_before_any_comes_again() -> None:
    class Watching(LinearDenoiser):
        """Nearly no noise, so that the pictures can be told."""

        def __init__(self) -> None:
            super().__init__()
            self.schedule = NoiseSchedule(torch.tensor([0.9999, 0.9998]).double(), "epsilon")
            self.seen: list[int] = []
            self.batches: list[int] = []

        def predict(self, x_t: Tensor, timesteps: Tensor, context: Context) -> Tensor:
            self.batches.append(len(x_t))
            self.seen += (x_t.mean((1, 2, 3)) / 10).round().int().tolist()
            return super().predict(x_t, timesteps, context)

    denoiser = Watching()
    pictures = torch.arange(5.0).mul(10).view(5, 1, 1, 1).expand(5, 4, 2, 2)
    config = FewShotConfig(epochs=3, batch_size=3)
    few_shot(denoiser, LayeredEncoder(), pictures, CAPTIONS, config)  # type: ignore[arg-type]
    assert [sorted(denoiser.seen[i : i + 5]) for i in (0, 5, 10)] == [[0, 1, 2, 3, 4]] * 3
    assert denoiser.batches == [3, 2] * 3  # no batch reaches into the next epoch


def test_each_epoch_has_a_result_of_its_own() -> None:
    """That of epoch k is the last of a run of k epochs, to the bit."""
    three = run(replace(FAST, epochs=3, batch_size=2)).by_epoch
    for k in (1, 2, 3):
        alone = run(replace(FAST, epochs=k, batch_size=2), every_epoch=False).by_epoch
        assert len(alone) == 1
        assert alone[0].keys() == three[k - 1].keys()
        assert all(torch.equal(alone[0][key], three[k - 1][key]) for key in alone[0])
    assert len(three) == 3
    # Adam moves a weight by its rate a step at first: after a whole epoch more than one step's.
    assert max(float(delta.abs().max()) for delta in three[0].values()) > 1.5 * FAST.learning_rate


def test_latents_without_pictures_are_uniform() -> None:
    made = random_latents(2, (4, 64, 64), seed=5)
    assert made.shape == (2, 4, 64, 64)
    assert made.dtype == torch.float32
    assert 0 <= float(made.min()) < 0.01
    assert 0.99 < float(made.max()) < 1
    assert float(made.mean()) == pytest.approx(0.5, abs=0.02)
    assert torch.equal(made, random_latents(2, (4, 64, 64), seed=5))
    assert not torch.equal(made, random_latents(2, (4, 64, 64), seed=6))


def test_works_inside_inference_mode() -> None:
    parts, short = (LayeredEncoder(), LinearDenoiser()), replace(FAST, epochs=2)
    outside = run(short, *parts)
    with torch.inference_mode():
        inside = run(short, *parts)
    assert inside.losses == outside.losses
    mine, theirs = inside.by_epoch[-1], outside.by_epoch[-1]
    assert all(torch.equal(mine[k], theirs[k]) for k in theirs)


def test_cancelling_detaches() -> None:
    encoder = LayeredEncoder()

    class StopError(Exception):
        pass

    def stop(done: int, total: int, message: str) -> None:
        assert "loss" in message
        if (done, total) == (2, 30):
            raise StopError

    with pytest.raises(StopError):
        run(encoder=encoder, progress=stop)
    assert not encoder._deltas


def test_captions() -> None:
    assert captioned(" cat ", ["a {}", "", " {} and {} "]) == ("a cat", "cat and cat")
    for templates in SENTENCES.values():
        assert all(text.count("cat") == 1 for text in captioned("cat", templates))
    with pytest.raises(ConfigError, match=r"'a cat' has no \{\}; .*'my cat' has .*no name"):
        captioned(" ", ["a cat", "a {}", "my cat"])
    with pytest.raises(ConfigError, match=r"no caption.* one a line"):
        captioned("cat", ["", " "])


def test_bad_input() -> None:
    with pytest.raises(ConfigError, match=r"epochs.*batch_size.*learning_rate"):
        FewShotConfig(epochs=0, batch_size=0, learning_rate=float("nan"))
    parts = LinearDenoiser(), LayeredEncoder()
    with pytest.raises(EmptyConceptSetError):
        few_shot(*parts, latents(0), CAPTIONS)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="captions"):
        few_shot(*parts, latents(1), ())  # type: ignore[arg-type]
    with pytest.raises(NonFiniteError, match=r"step 1 of 4; use fewer epochs or a smaller"):
        few_shot(*parts, latents(1) * float("nan"), CAPTIONS)  # type: ignore[arg-type]
    assert not parts[1]._deltas


def test_a_broken_last_step_is_noticed() -> None:
    class Cornered(LayeredEncoder):
        """Its loss is finite, the slope of it is not."""

        def encode(self, texts: Sequence[str]) -> Context:
            key = layer(0, "mlp.fc1.bias")
            moved = (self._weight(key) - self.base[key]).abs().sum().sqrt()
            return Context(super().encode(texts).tokens + moved)

    with pytest.raises(NonFiniteError, match=r"fc1\.bias is not finite at step 1 of 1"):
        run(FewShotConfig(epochs=1, batch_size=3), Cornered())
