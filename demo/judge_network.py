"""The demo's judge: what is drawn in a 64x64 picture, and in which style.

Both heads have one answer more than there are names: "other", for pictures of anything else, for
broken pictures and for noise. So the judge can stay silent, which a judge of erasure must be able
to do.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

OTHER = "other"


class JudgeNetwork(nn.Module):
    """Pictures [n, 3, 64, 64] in -1..1 -> logits [n, objects + 1] and [n, styles + 1]."""

    def __init__(self, objects: int, styles: int, width: int = 32):
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for out, stride in ((1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (6, 2)):
            layers += [
                nn.Conv2d(channels, out * width, 3, stride=stride, padding=1, bias=False),
                nn.GroupNorm(8, out * width),
                nn.SiLU(),
            ]
            channels = out * width
        self.trunk = nn.Sequential(*layers)
        self.objects = nn.Linear(channels * 4, objects + 1)
        self.styles = nn.Linear(channels * 2, styles + 1)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.trunk(pictures)
        whole = torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)
        halves = torch.cat([maps[:, :, :2].mean((2, 3)), maps[:, :, 2:].mean((2, 3))], 1)
        return self.objects(torch.cat([whole, halves], 1)), self.styles(whole)


class DemoJudge:
    """Implements `tverase_core.ports.Judge` for the demo's 16 objects and 3 styles."""

    def __init__(self, network: JudgeNetwork, objects: Sequence[str], styles: Sequence[str]):
        self.network = network.eval().requires_grad_(False)
        self.objects, self.styles = tuple(objects), tuple(styles)

    def concepts(self) -> tuple[str, ...]:
        """Every name it knows."""
        return self.objects + self.styles

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images float [n, H, W, 3] in 0..1 -> [n, objects + 1], [n, styles + 1]; last is other."""
        pictures = images[..., :3].movedim(-1, 1).float() * 2 - 1
        if pictures.shape[-2:] != (64, 64):
            pictures = nn.functional.interpolate(pictures, (64, 64), mode="area")
        parts = [self.network(part) for part in pictures.clamp(-1, 1).split(256)]
        objects, styles = (torch.cat(logits).softmax(1) for logits in zip(*parts, strict=True))
        return objects, styles

    def score(self, images: Tensor, concept: str) -> Tensor:
        """Probability of the concept, float32 [n]. Raises KeyError for a name it does not know."""
        objects, styles = self.probabilities(images)
        if concept in self.objects:
            return objects[:, self.objects.index(concept)]
        if concept in self.styles:
            return styles[:, self.styles.index(concept)]
        raise KeyError(
            f"The demo judge does not know {concept!r}. It knows {', '.join(self.concepts())}."
        )


def load_demo_judge(path: Path) -> DemoJudge:
    """Read demo_judge.safetensors."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        weights = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    objects, styles = json.loads(metadata["objects"]), json.loads(metadata["styles"])
    network = JudgeNetwork(len(objects), len(styles))
    network.load_state_dict(weights)
    return DemoJudge(network, objects, styles)
