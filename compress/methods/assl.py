"""Pruning by a penalty that grows on weights chosen after a phase of alignment."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import pydantic
import torch
from torch import Tensor, nn

from compress.methods._sparsity import dropped, prunable, shaped
from compress.methods.srp import Growing
from compress.network import Network
from compress.registry import METHODS
from compress.workshop import ALONE, Workshop

if TYPE_CHECKING:
    from compress.task import Task

__all__ = ["Aligning", "Assl", "alignment_gradient"]

_ALIGNING, _STEADY = 17_260 / 160_410, 43_150 / 160_410  # of the steps before the cut, as ISS-P's authors ran it


def alignment_gradient(weight: Tensor, sparsity: float) -> Tensor:
    """Of minus the inner product of a layer's soft mask with itself, m = sigmoid(|w| - t), with respect to w.

    -2 m^2 (1 - m) sign(w); t, the magnitude below which weights would go, counts as constant.
    """
    size = weight.abs()
    threshold = size.flatten().kthvalue(max(1, dropped(size.numel(), sparsity))).values
    mask = torch.sigmoid(size - threshold)
    return -2 * mask.square() * (1 - mask) * weight.sign()


class Aligning(Growing):
    """Aligns soft masks, then penalises the weights that are smallest by then more and more, then holds the penalty.

    Args:
        sparsity: share of a layer's weights that goes.
        ceiling: the factor of the L2 penalty at its height.
        until: the step with which it ends, and the penalised weights are set to zero.
        align_weight: of the soft masks' inner products, their mean over the layers, in the loss.
        skip: patterns of layer names.
    """

    def __init__(
        self, sparsity: float, ceiling: float, until: int, align_weight: float, skip: tuple[str, ...] = ()
    ) -> None:
        super().__init__(sparsity, ceiling, until, skip)
        self.align_weight = align_weight
        self.aligned = int(_ALIGNING * until)
        self.steady = until - int(_STEADY * until)

    @torch.no_grad()
    def on_gradients(self, module: nn.Module, step: int) -> None:
        """Add the gradient of the alignment, later of the penalty."""
        if step >= self.aligned:
            super().on_gradients(module, step)
            return
        weights = prunable(module, self.skip).values()
        for weight in weights:
            if weight.grad is not None:
                weight.grad.add_(alignment_gradient(weight, self.sparsity), alpha=self.align_weight / len(weights))

    def factor(self, step: int) -> float:
        """Of the penalty: from 0 to its ceiling, where it stays."""
        return self.ceiling * min(1.0, (step + 1 - self.aligned) / (self.steady - self.aligned))


@METHODS.add("assl")
@dataclass(frozen=True)
class Assl:
    """Prune single weights by a penalty that grows after the masks were aligned, hold it, and train the others on.

    ASSL (Zhang et al., Aligned Structured Sparsity Learning for Efficient Image Super-Resolution, NeurIPS 2021), here
    on single weights, as ISS-P compares it (arXiv:2303.09650, section 4).  ASSL prunes filters: it penalises the scales
    of a weight normalisation and draws the masks of layers that share a residual sum together.  Single weights have
    neither, so ISS-P's authors (asslSR_pruner.py) let each layer's soft mask agree with itself and penalise weights;
    the phases have the shares of theirs: 17,260 steps of alignment, 100,000 of growth, 43,150 at the ceiling.  Unlike
    there, the soft mask is that of magnitudes, which decide what goes, not of signed weights; every layer is aligned,
    not those of some names; and the threshold is exact.  It trains on the calibration images.
    """

    lossy: ClassVar[bool] = True
    sparsity: Annotated[float, pydantic.Field(gt=0, lt=1)] = 0.95
    ceiling: Annotated[float, pydantic.Field(gt=0)] = 0.5
    """The penalty's factor at its height."""
    align_weight: Annotated[float, pydantic.Field(ge=0)] = 1e-8
    """Of the alignment in the loss."""
    skip: tuple[str, ...] = ()
    """Patterns of layers that are left alone, such as ``*tail*``."""
    scratch: bool = False
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
        own = ("sparsity", "ceiling", "align_weight", "skip", "scratch", "prune_steps")
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in own}
        until = min(self.prune_steps, self.steps)
        shaper = Aligning(self.sparsity, self.ceiling, until, self.align_weight, self.skip)
        return shaped(network, task, workshop, {**settings, "hold_steps": until}, shaper, self.scratch)
