"""One-shot pruning by magnitude."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import pydantic
from torch import nn

from compress.methods._sparsity import Masks, prunable, selected, shaped
from compress.network import Network
from compress.registry import METHODS
from compress.workshop import ALONE, Workshop

if TYPE_CHECKING:
    from compress.task import Task

__all__ = ["Magnitude", "OneShot"]


class OneShot(Masks):
    """Zeroes each layer's smallest weights once, after a first phase of training.

    Args:
        sparsity: share of a layer's weights that goes.
        after: steps of training before.
        skip: patterns of layer names.
    """

    def __init__(self, sparsity: float, after: int, skip: tuple[str, ...] = ()) -> None:
        super().__init__(skip)
        self.sparsity, self.after = sparsity, after

    def on_weights(self, module: nn.Module, step: int) -> None:
        """Keep zero what is gone; choose it when the time has come."""
        if not self.gone and step + 1 >= self.after:
            weights = prunable(module, self.skip)
            self.freeze(module, {name: selected(weight, self.sparsity) for name, weight in weights.items()})
        self.finish(module)


@METHODS.add("magnitude")
@dataclass(frozen=True)
class Magnitude:
    """Prune each layer's smallest single weights at once, and train the others on.

    Han et al., arXiv:1506.02626, section 3; the "L1-norm" baseline of ISS-P (arXiv:2303.09650, section 4).  It trains
    on the calibration images.
    """

    lossy: ClassVar[bool] = True
    sparsity: Annotated[float, pydantic.Field(gt=0, lt=1)] = 0.95
    skip: tuple[str, ...] = ()
    """Patterns of layers that are left alone, such as ``*tail*``."""
    scratch: bool = False
    """Whether training begins from random values; pruning then comes after ``prune_steps``."""
    prune_steps: Annotated[int, pydantic.Field(ge=0)] = 0
    """Of training before the cut."""
    steps: Annotated[int, pydantic.Field(ge=1)] = 6_000
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
        own = ("sparsity", "skip", "scratch", "prune_steps")
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in own}
        after = min(self.prune_steps, self.steps)
        shaper = OneShot(self.sparsity, after, self.skip)
        return shaped(network, task, workshop, {**settings, "hold_steps": after}, shaper, self.scratch)
