"""Drawing digits and telling which they are: the core's ports Sampler and Judge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from tverase_core.ports import Context, Denoiser

from .digits import LATENT, SIDE, Digits, Latents


class DigitSampler:
    """ports.Sampler: DDIM without guidance (arXiv 2010.02502), as the authors draw theirs."""

    def __init__(self, denoiser: Denoiser, latents: Latents, steps: int):
        self._denoiser, self._latents = denoiser, latents
        self._ladder = torch.linspace(len(denoiser.schedule) - 1, 0, steps).round().long().tolist()

    @torch.no_grad()
    def images(self, context: Context, seeds: Sequence[int]) -> Tensor:
        """float32 [n, 14, 14, 3] in 0..1."""
        x = torch.stack([_noise(seed) for seed in seeds])
        kept = self._denoiser.schedule.alphas_cumprod[self._ladder].tolist()
        for now, a, then in zip(self._ladder, kept, [*kept[1:], 1.0], strict=True):
            v = self._denoiser.predict(x, torch.full((len(x),), now), context)
            clean, noise = a**0.5 * x - (1 - a) ** 0.5 * v, (1 - a) ** 0.5 * x + a**0.5 * v
            x = then**0.5 * clean + (1 - then) ** 0.5 * noise
        grey = (self._latents.decode(x) + 1) / 2
        return grey.movedim(1, -1).expand(-1, -1, -1, 3)


def _noise(seed: int) -> Tensor:
    return torch.randn(LATENT, generator=torch.Generator().manual_seed(seed))


class JudgeNetwork(nn.Sequential):
    """Pictures [n, 1, 14, 14] in -1..1 -> logits [n, 10]."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 24, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(24, 48, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(48, 64, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(64 * (SIDE // 2) ** 2, 10),
        )


class DigitJudge:
    """ports.Judge for the names "0" to "9"."""

    def __init__(self, network: nn.Module):
        self.network = network.eval().requires_grad_(False)

    @torch.no_grad()
    def answers(self, pictures: Tensor) -> Tensor:
        """The digit it sees in each, int64 [n]; pictures [n, 1, 14, 14] in -1..1."""
        return torch.cat([self.network(part).argmax(1) for part in pictures.split(512)])

    @torch.no_grad()
    def score(self, images: Tensor, concept: str) -> Tensor:
        """Probability of that digit, float32 [n]."""
        pictures = images[..., 0][:, None] * 2 - 1
        parts = [self.network(part).softmax(1) for part in pictures.split(512)]
        return torch.cat(parts)[:, int(concept)]


def trained_judge(train: Digits, epochs: int, batch: int = 100) -> DigitJudge:
    """A classifier trained on real digits, some of them noisy. Sets torch's global seed."""
    torch.manual_seed(0)
    network = JudgeNetwork()
    optimizer = torch.optim.Adam(network.parameters())
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (1 - epoch / epochs)
        for rows in torch.randperm(len(train.labels)).split(batch):
            clean = train.pictures[rows]
            noise = 0.15 * torch.rand(len(rows), 1, 1, 1) * torch.randn_like(clean)
            loss = functional.cross_entropy(network(clean + noise), train.labels[rows])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    return DigitJudge(network)


def accuracy(judge: DigitJudge, test: Digits) -> float:
    """Share of real digits that it names rightly."""
    return float((judge.answers(test.pictures) == test.labels).float().mean())


def save_judge(path: Path, judge: DigitJudge, measured: float, tested: int) -> None:
    """The network with its accuracy on so many digits that it was not trained on."""
    facts = {"accuracy": str(measured), "tested": str(tested)}
    save_file(judge.network.state_dict(), path, facts)


def load_judge(path: Path) -> tuple[DigitJudge, float, int]:
    """The judge, its accuracy and the number of digits that this was measured on."""
    network = JudgeNetwork()
    with safe_open(path, framework="pt") as file:
        facts = file.metadata()
        network.load_state_dict({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
    return DigitJudge(network), float(facts["accuracy"]), int(facts["tested"])
