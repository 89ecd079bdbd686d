"""From losses to moved weights: with all gradients at once, or one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

Maker: TypeAlias = Callable[[list[Tensor]], torch.optim.Optimizer]


class Mover(Protocol):
    """Each step: `add` its losses, ask for the `norm`, `move`."""

    @property
    def state(self) -> Mapping[Tensor, dict[str, Any]]:
        """What the optimizer remembers of each weight."""
        ...

    def add(self, loss: Tensor) -> None:
        """One more loss of this step, with gradient; they count as their sum."""
        ...

    def norm(self) -> Tensor:
        """Norm of the sum's gradient before it is clipped, all weights together."""
        ...

    def move(self, rate: float) -> None:
        """The optimizer's step with the clipped gradient."""
        ...


class KeptGradients:
    """A gradient of each weight, from the first loss until the step."""

    def __init__(self, learned: Iterable[Tensor], make: Maker, limit: float):
        self._learned, self._limit = list(learned), limit
        self._optimizer = make(self._learned)

    @property
    def state(self) -> Mapping[Tensor, dict[str, Any]]:
        return self._optimizer.state

    def add(self, loss: Tensor) -> None:
        torch.autograd.backward(loss)

    def norm(self) -> Tensor:
        return torch.nn.utils.clip_grad_norm_(self._learned, self._limit, foreach=False)

    def move(self, rate: float) -> None:
        _set_rate(self._optimizer, rate)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)


class FusedBackward:
    """The optimizer's steps inside the backward pass: never do all gradients exist at once.

    Each weight moves as soon as its gradient is there, and the gradient is let go. Clipping by the
    norm of all (arXiv 1211.5063), which must be known before the first weight moves, takes a
    backward pass of its own before. Of one loss a step; by the same gradients it moves to the
    same bits as `KeptGradients`.
    """

    def __init__(self, learned: Iterable[Tensor], make: Maker, limit: float):
        self._limit = limit
        self._optimizers = {weight: make([weight]) for weight in learned}
        self._loss, self._norm = torch.zeros(()), torch.zeros(())

    @property
    def state(self) -> Mapping[Tensor, dict[str, Any]]:
        return {weight: own.state[weight] for weight, own in self._optimizers.items()}

    def add(self, loss: Tensor) -> None:
        self._loss = loss

    def norm(self) -> Tensor:
        norms: dict[Tensor, Tensor] = {}

        def measure(weight: Tensor, gradient: Tensor) -> None:
            norms[weight] = torch.linalg.vector_norm(gradient)

        with self._taking(measure):
            torch.autograd.backward(self._loss, retain_graph=True)
        # As clip_grad_norm_ does, and in its order: in another a sum has other last digits.
        found = [norms[weight] for weight in self._optimizers if weight in norms]
        self._norm = torch.linalg.vector_norm(torch.stack(found))
        return self._norm

    def move(self, rate: float) -> None:
        shorter = torch.clamp(self._limit / (self._norm + 1e-6), max=1.0)  # as clip_grad_norm_

        def step(weight: Tensor, gradient: Tensor) -> None:
            gradient.mul_(shorter)
            _set_rate(self._optimizers[weight], rate)
            self._optimizers[weight].step()

        loss, self._loss = self._loss, torch.zeros(())
        with self._taking(step):
            torch.autograd.backward(loss)

    @contextmanager
    def _taking(self, take: Callable[[Tensor, Tensor], None]) -> Iterator[None]:
        """While open, gradients are taken as soon as they are whole, and let go."""

        def taken(weight: Tensor) -> None:
            if weight.grad is not None:
                take(weight, weight.grad)
                weight.grad = None

        with ExitStack() as hooks:
            for weight in self._optimizers:
                hook = weight.register_post_accumulate_grad_hook(taken)  # type: ignore[no-untyped-call]
                hooks.callback(hook.remove)
            yield


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
