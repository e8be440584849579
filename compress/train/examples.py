"""What a task gives the training loop."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

__all__ = ["Batch", "Examples"]

Batch = tuple[Tensor, ...]
"""The inputs first, then whatever the loss needs, as it comes from the disk (uint8 images, int64 labels)."""


class Examples(Protocol):
    """Training data of one task."""

    @property
    def metric(self) -> str:
        """What :meth:`validate` measures, with its unit."""
        ...

    @property
    def protocol(self) -> str:
        """What makes two validation scores comparable."""
        ...

    def batch(self, step: int) -> Batch:
        """The batch of a step: the same whenever it is asked for, so that a resumed run sees what it would have."""
        ...

    def inputs(self, batch: Batch) -> Tensor:
        """What the network gets, (N, C, H, W) in [0, 1], on the batch's device."""
        ...

    def loss(self, output: Tensor, batch: Batch, taught: Tensor | None) -> Tensor:
        """The loss of an output; ``taught`` is the teacher's output for the same inputs."""
        ...

    def validate(self, module: nn.Module) -> float:
        """Score of a module in evaluation mode on the images held out; larger is better."""
        ...

    @property
    def teacher_runs_live(self) -> bool:
        """Whether the loop must run the teacher on each batch (else its outputs are in the batch)."""
        ...
