"""Pruning by a penalty that grows."""

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

__all__ = ["Growing", "Srp"]


class Growing(Masks):
    """Penalises the weights that are smallest at the first step more and more, then zeroes them.

    Args:
        sparsity: share of a layer's weights that goes.
        ceiling: the factor of the L2 penalty at the end.
        until: the step with which it ends.
        skip: patterns of layer names.
    """

    def __init__(self, sparsity: float, ceiling: float, until: int, skip: tuple[str, ...] = ()) -> None:
        super().__init__(skip)
        self.sparsity, self.ceiling, self.until = sparsity, ceiling, until
        self.chosen: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def on_gradients(self, module: nn.Module, step: int) -> None:
        """Add the penalty's gradient."""
        if self.gone:
            return
        weights = prunable(module, self.skip)
        if not self.chosen:
            self.chosen = {name: selected(weight, self.sparsity) for name, weight in weights.items()}
        factor = self.factor(step)
        for name, weight in weights.items():
            if weight.grad is not None:
                weight.grad.add_(weight * self.chosen[name], alpha=factor)

    def factor(self, step: int) -> float:
        """Of the penalty: from 0 to its ceiling."""
        return self.ceiling * (step + 1) / self.until

    def on_weights(self, module: nn.Module, step: int) -> None:
        """Zero the penalised weights when the penalty has grown, and keep them so."""
        if not self.gone and step + 1 >= self.until:
            self.freeze(module, self.chosen)
        self.finish(module)

    def state(self) -> dict[str, torch.Tensor]:
        """The choice, and whether it is carried out."""
        frozen = {"frozen": torch.tensor(bool(self.gone))}
        return {**self.chosen, **frozen}

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Take up a checkpoint."""
        self.chosen = {name: mask for name, mask in state.items() if name != "frozen"}
        self.gone = dict(self.chosen) if bool(state["frozen"]) else {}


@METHODS.add("srp")
@dataclass(frozen=True)
class Srp:
    """Prune single weights by an L2 penalty that grows until they are gone, and train the others on.

    Growing regularisation (Wang et al., arXiv:2012.09243, section 3.2, GReg-1) as SRP takes it (Zhang et al., ICLR
    2022), here on single weights, as ISS-P compares it (arXiv:2303.09650, section 4).  It trains on the calibration
    images.
    """

    lossy: ClassVar[bool] = True
    sparsity: Annotated[float, pydantic.Field(gt=0, lt=1)] = 0.95
    ceiling: Annotated[float, pydantic.Field(gt=0)] = 0.5
    """The penalty's factor when it ends."""
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
        own = ("sparsity", "ceiling", "skip", "scratch", "prune_steps")
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in own}
        until = min(self.prune_steps, self.steps)
        shaper = Growing(self.sparsity, self.ceiling, until, self.skip)
        return shaped(network, task, workshop, {**settings, "hold_steps": until}, shaper, self.scratch)
