"""Where inversions start and where they may go: the text encoder's embedding space."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import ConfigError
from ..ports import TextEncoder
from .config import RANDOM, InversionConfig
from .cosines import project

START_NOISE = 0.1  # of the median norm, so that a set started from one word can spread


class Space:
    """Median norm, the concept's own word and the allowed interval, tower by tower."""

    def __init__(self, encoder: TextEncoder, concept: str, config: InversionConfig):
        self._config = config
        self._encoder = encoder
        self._tables = {tower: encoder.vocabulary(tower).detach() for tower in encoder.widths()}
        norms = {tower: _row_norms(table) for tower, table in self._tables.items()}
        self._norms = {t: float(rows.median()) * config.vectors**0.5 for t, rows in norms.items()}
        # A row of zeros, as some tables have for padding, has no direction to start from.
        self._usable = {tower: rows.nonzero()[:, 0] for tower, rows in norms.items()}
        for tower, rows in self._usable.items():
            if not len(rows):
                raise ConfigError(
                    f"Inversion: every row of the text encoder's table {tower!r} is zero. Load the "
                    "checkpoint's own CLIP."
                )
        self._words = self._fitted(concept) if config.intervals else {}
        spans = torch.tensor(config.intervals or [], dtype=torch.float64).view(-1, 2)
        self._low, self._high = spans.unbind(1)

    def _fitted(self, word: str) -> dict[str, Tensor]:
        """The word's vectors as [t, d]: itself when it has t tokens, else its mean t times."""
        fitted = {}
        for tower, vectors in self._encoder.word_vectors(word).items():
            own = vectors.detach().float().cpu()
            if len(own) == 0 or not bool(own.norm() > 0):
                raise ConfigError(
                    f"Inversion: the word {word!r} has no tokens in tower {tower!r}. Give another."
                )
            same = len(own) == self._config.vectors
            fitted[tower] = own if same else own.mean(0).expand(self._config.vectors, -1).clone()
        return fitted

    def _first_word(self) -> dict[str, Tensor]:
        """The start word's vectors, [t, d]. Raises ConfigError unless it has one token, or t."""
        word, wanted = self._config.start, self._config.vectors
        fitted = self._fitted(word)
        counts = {t: len(v) for t, v in self._encoder.word_vectors(word).items()}
        if any(count not in (1, wanted) for count in counts.values()):
            raise ConfigError(
                f"Inversion: the start word {word!r} has {max(counts.values())} tokens, expected "
                f"one{f' or {wanted}' * (wanted > 1)}. Give a plain word such as 'object' or "
                "'art', or as many vectors as the word has tokens."
            )
        return fitted

    def start(self, seeds: Tensor) -> dict[str, Tensor]:
        """First vectors by tower, float32 [n, t, d]; row k depends on seeds[k] alone."""
        towers = self._tables if self._config.start == RANDOM else self._first_word()
        made: dict[str, list[Tensor]] = {tower: [] for tower in towers}
        for seed in seeds.tolist():
            source = torch.Generator().manual_seed(seed)
            for tower, value in towers.items():
                made[tower].append(self._one(tower, value, source))
        return self.hold({tower: torch.stack(rows) for tower, rows in made.items()})

    def _one(self, tower: str, value: Tensor, source: torch.Generator) -> Tensor:
        if self._config.start == RANDOM:
            usable = self._usable[tower]
            chosen = torch.randint(len(usable), (self._config.vectors,), generator=source)
            return value[usable[chosen.to(usable.device)]].float().cpu().clone()
        noise = torch.randn(value.shape, generator=source)
        return value + noise.mul(START_NOISE * self._norms[tower] / float(noise.norm()))

    def hold(self, vectors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Back inside the interval and to the median norm, where the settings name intervals.

        The norm is that of all t vectors together: sqrt(t) times the vocabulary's median.
        """
        if not self._config.intervals:
            return dict(vectors)
        return {
            tower: project(value, self._words[tower], self._low, self._high, self._norms[tower])
            for tower, value in vectors.items()
        }


def _row_norms(table: Tensor) -> Tensor:
    """float32 [rows]. A language model's table would need gigabytes more in float32 at once."""
    return torch.cat([part.float().norm(dim=1) for part in torch.split(table, 8192)])
