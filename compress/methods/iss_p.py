"""Iterative soft shrinkage by a percentage: unstructured pruning from random values."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import pydantic
import torch
from torch import nn

from compress.methods._sparsity import Masks, prunable, selected, shaped
from compress.network import Network
from compress.registry import METHODS
from compress.workshop import ALONE, Workshop

if TYPE_CHECKING:
    from compress.task import Task

__all__ = ["IssP", "Shrinking"]


class Shrinking(Masks):
    """Shrinks each layer's smallest weights after every step, anew; then freezes those that are smallest.

    Args:
        sparsity: share of a layer's weights that goes.
        factor: what a selected weight is multiplied by.
        until: the step with which shrinking ends and the mask is fixed.
        skip: patterns of layer names.
    """

    def __init__(self, sparsity: float, factor: float, until: int, skip: tuple[str, ...] = ()) -> None:
        super().__init__(skip)
        self.sparsity, self.factor, self.until = sparsity, factor, until

    @torch.no_grad()
    def on_weights(self, module: nn.Module, step: int) -> None:
        """Shrink, freeze, or keep frozen."""
        if self.gone:
            self.finish(module)
            return
        last = step + 1 >= self.until
        weights = prunable(module, self.skip)
        chosen = {name: selected(weight, self.sparsity, exact=last) for name, weight in weights.items()}
        for name, weight in weights.items():
            weight.mul_(torch.where(chosen[name], self.factor, 1.0))
        if last:
            self.freeze(module, chosen)


@METHODS.add("iss-p")
@dataclass(frozen=True)
class IssP:
    """Prune single weights while a network learns from scratch: soft shrinkage of each layer's smallest.

    ISS-P (Wang et al., arXiv:2303.09650, section 3.2): after every step the smallest weights of each layer are
    multiplied by ``factor``, selected anew each time, at the final sparsity from the first step on; after
    ``prune_steps`` they are set to zero and the others are trained on.  It trains on the calibration images.
    """

    lossy: ClassVar[bool] = True
    sparsity: Annotated[float, pydantic.Field(gt=0, lt=1)] = 0.95
    factor: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.95
    skip: tuple[str, ...] = ()
    """Patterns of layers that are left alone, such as ``*tail*``."""
    scratch: bool = True
    """Whether training begins from random values."""
    prune_steps: Annotated[int, pydantic.Field(ge=1)] = 4_000
    steps: Annotated[int, pydantic.Field(ge=1)] = 10_000
    """In all; the learning rate is held until ``prune_steps``."""
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
        own = ("sparsity", "factor", "skip", "scratch", "prune_steps")
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in own}
        until = min(self.prune_steps, self.steps)
        shaper = Shrinking(self.sparsity, self.factor, until, self.skip)
        return shaped(network, task, workshop, {**settings, "hold_steps": until}, shaper, self.scratch)
