"""Sparse training that moves its connections."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import pydantic
import torch
from torch import Tensor, nn

from compress.methods._sparsity import Masks, dropped, prunable, shaped
from compress.network import Network
from compress.registry import METHODS
from compress.workshop import ALONE, Workshop

if TYPE_CHECKING:
    from compress.task import Task

__all__ = ["Moving", "Rigl"]


class Moving(Masks):
    """Trains with zeros from the start; now and then the smallest weights give way to those with the largest gradients.

    Args:
        sparsity: share of a layer's weights that is zero.
        share: of the other weights, that move at the first time; falls to 0 by half a cosine.
        every: steps between two moves.
        until: the step after which nothing moves.
        skip: patterns of layer names.
        seed: of the first, random, choice.
    """

    def __init__(self, sparsity: float, share: float, every: int, until: int, skip: tuple[str, ...], seed: int) -> None:
        super().__init__(skip)
        self.sparsity, self.share, self.every, self.until, self.seed = sparsity, share, every, until, seed

    @torch.no_grad()
    def on_gradients(self, module: nn.Module, step: int) -> None:
        """Choose the first zeros; move them."""
        weights = prunable(module, self.skip)
        if not self.gone:
            self.freeze(module, {name: self._random(weight) for name, weight in weights.items()})
        elif step % self.every == 0 and step < self.until:
            share = self.share / 2 * (1 + math.cos(math.pi * step / self.until))
            moved = {name: moved_zeros(weight, self.gone[name], share) for name, weight in weights.items()}
            self.freeze(module, moved)
        for name, weight in weights.items():
            if weight.grad is not None:
                weight.grad[self.gone[name]] = 0.0

    def _random(self, weight: Tensor) -> Tensor:
        order = torch.randperm(weight.numel(), generator=torch.Generator().manual_seed(self.seed + weight.numel()))
        mask = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
        mask[order[: dropped(weight.numel(), self.sparsity)].to(weight.device)] = True
        return mask.view_as(weight)


def moved_zeros(weight: Tensor, gone: Tensor, share: float) -> Tensor:
    """Where zeros are after a share of the other weights, the smallest, gave way to zeros with the largest gradients.

    RigL (Evci et al., arXiv:1911.11134, section 3).  A weight that comes back begins at zero.
    """
    assert weight.grad is not None
    count = min(int(share * int((~gone).sum())), int(gone.sum()))
    size = weight.abs().masked_fill(gone, torch.inf).flatten()
    slope = weight.grad.abs().masked_fill(~gone, -torch.inf).flatten()
    mask = gone.clone().flatten()
    mask[slope.argsort(descending=True, stable=True)[:count]] = False
    mask[size.argsort(stable=True)[:count]] = True
    return mask.view_as(gone)


@METHODS.add("rigl")
@dataclass(frozen=True)
class Rigl:
    """Train a sparse network from scratch, whose zeros move to where gradients are small.

    RigL (Evci et al., arXiv:1911.11134, section 3), the same sparsity in every layer.  ``share = 0`` is a fixed random
    mask: the "scratch" baseline of ISS-P (arXiv:2303.09650, section 4).  It trains on the calibration images.
    """

    lossy: ClassVar[bool] = True
    sparsity: Annotated[float, pydantic.Field(gt=0, lt=1)] = 0.95
    share: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.3
    """Of the weights that are there, that move at the first time."""
    every: Annotated[int, pydantic.Field(ge=1)] = 100
    """Steps between two moves."""
    skip: tuple[str, ...] = ()
    """Patterns of layers that are left alone, such as ``*tail*``."""
    scratch: bool = True
    """Whether training begins from random values."""
    steps: Annotated[int, pydantic.Field(ge=1)] = 10_000
    """In all; zeros move in the first three quarters."""
    batch: Annotated[int, pydantic.Field(ge=1)] = 16
    crop: Annotated[int, pydantic.Field(ge=16)] = 48
    loss: Literal["l1", "l2", "charbonnier"] = "l1"
    learning_rate: Annotated[float, pydantic.Field(gt=0)] = 5e-4
    teacher_weight: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.5
    shrink: tuple[float, ...] = (1.0, 0.8, 0.6)
    validate_every: Annotated[int, pydantic.Field(ge=1)] = 1000

    def __call__(self, network: Network, task: Task, workshop: Workshop = ALONE) -> Network:
        """The network with zeros in its weights, as many in each layer as the sparsity says, rounded up.

        Raises:
            UsageError: a classifier without labelled images, or ``skip`` leaves nothing.
            DataError: no image that is as large as a crop.
        """
        own = ("sparsity", "share", "every", "skip", "scratch")
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in own}
        shaper = Moving(self.sparsity, self.share, self.every, self.steps * 3 // 4, self.skip, workshop.seed)
        return shaped(network, task, workshop, settings, shaper, self.scratch)
