"""N:M sparsity: a fixed number of zeros in every group of consecutive weights."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import pydantic
import torch
from torch import Tensor, nn

from compress.errors import UsageError
from compress.methods._sparsity import Masks, prunable, shaped
from compress.network import Network
from compress.registry import METHODS
from compress.workshop import ALONE, Workshop

if TYPE_CHECKING:
    from compress.task import Task

__all__ = ["Grouped", "NOfM", "smallest_of_groups"]


def smallest_of_groups(weight: Tensor, zeros: int, group: int, along: str) -> Tensor:
    """The mask of the smallest weights of each group; weights left over at the end of a row make no group.

    Args:
        weight: (out, in, ...).
        zeros: in each group.
        group: its size.
        along: ``flat``: consecutive in memory; ``input``: consecutive input channels at one place of the kernel.
    """
    rows = weight.detach().abs()
    rows = rows.reshape(1, -1) if along == "flat" else rows.movedim(1, -1).reshape(-1, weight.shape[1])
    whole = rows.shape[1] // group * group
    groups = rows[:, :whole].reshape(-1, group)
    mask = torch.zeros_like(groups, dtype=torch.bool)
    mask.scatter_(1, groups.argsort(dim=1, stable=True)[:, :zeros], True)
    full = torch.zeros_like(rows, dtype=torch.bool)
    full[:, :whole] = mask.reshape(rows.shape[0], whole)
    if along == "flat":
        return full.view_as(weight)
    moved = weight.movedim(1, -1)
    return full.reshape(moved.shape).movedim(-1, 1)


class Grouped(Masks):
    """Zeroes the smallest weights of each group once.

    Args:
        zeros: in each group.
        group: its size.
        along: as :func:`smallest_of_groups`.
        skip: patterns of layer names.
    """

    def __init__(self, zeros: int, group: int, along: str, skip: tuple[str, ...] = ()) -> None:
        super().__init__(skip)
        self.zeros, self.group, self.along = zeros, group, along

    def on_weights(self, module: nn.Module, step: int) -> None:
        """Keep zero what is gone; choose it at the first step."""
        if not self.gone:
            chosen = {
                name: smallest_of_groups(weight, self.zeros, self.group, self.along)
                for name, weight in prunable(module, self.skip).items()
            }
            self.freeze(module, chosen)
        self.finish(module)


@METHODS.add("n-m")
@dataclass(frozen=True)
class NOfM:
    """Set N weights of every M consecutive ones to zero, and train the others on.

    Two conventions are about.  NVIDIA's 2:4 keeps 2 of 4 consecutive input channels (arXiv:2104.08378, section 3):
    ``zeros = 2, group = 4, along = "input"``.  ISS-P's code counts zeros of the flattened tensor (arXiv:2303.09650):
    its 9:10 is 90 % sparse, ``zeros = 9, group = 10, along = "flat"``.  It trains on the calibration images.
    """

    lossy: ClassVar[bool] = True
    zeros: Annotated[int, pydantic.Field(ge=1)] = 2
    """In every group: N of ISS-P, M - N of NVIDIA."""
    group: Annotated[int, pydantic.Field(ge=2, le=1024)] = 4
    """M."""
    along: Literal["input", "flat"] = "input"
    skip: tuple[str, ...] = ()
    """Patterns of layers that are left alone, such as ``*tail*``."""
    steps: Annotated[int, pydantic.Field(ge=1)] = 6_000
    batch: Annotated[int, pydantic.Field(ge=1)] = 16
    crop: Annotated[int, pydantic.Field(ge=16)] = 48
    loss: Literal["l1", "l2", "charbonnier"] = "l1"
    learning_rate: Annotated[float, pydantic.Field(gt=0)] = 5e-4
    teacher_weight: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.5
    shrink: tuple[float, ...] = (1.0, 0.8, 0.6)
    validate_every: Annotated[int, pydantic.Field(ge=1)] = 1000

    def __call__(self, network: Network, task: Task, workshop: Workshop = ALONE) -> Network:
        """The network with N zeros in every group; what is left over at the end of a row stays.

        Raises:
            UsageError: a classifier without labelled images, a group that would be emptied, or ``skip`` leaves nothing.
            DataError: no image that is as large as a crop.
        """
        if self.zeros >= self.group:
            raise UsageError(
                f"n-m on {network.name}: {self.zeros} zeros in {self.group} empty every layer; lower zeros"
            )
        own = ("zeros", "group", "along", "skip")
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in own}
        shaper = Grouped(self.zeros, self.group, self.along, self.skip)
        return shaped(network, task, workshop, settings, shaper, scratch=False)
