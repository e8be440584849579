"""What flows through a run: a network, and what the rest of the house must know about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import nn

    from compress.task import Task
    from export.policy import QuantPolicy

__all__ = ["Method", "ModelFactory", "Network", "TrainableFactory", "WeightsSource"]


@dataclass(frozen=True)
class WeightsSource:
    """Where the weights came from."""

    path: Path
    sha256: str
    builtin: bool


@dataclass(frozen=True)
class Network:
    """A torch module and its contract.

    The module maps (N, channels, H, W) in [0, 1] to (N, channels, scale*H, scale*W), nominally in [0, 1].
    """

    name: str
    module: nn.Module
    scale: int
    channels: int
    weights: WeightsSource
    policy: QuantPolicy | None = None
    """How to quantize it on export; None leaves it in float."""


class ModelFactory(Protocol):
    """A registered model: builds the network from a checkpoint, or from the built-in weights."""

    __doc__: str | None

    def __call__(self, weights: Path | None, scale: int | None) -> Network:
        """The network, in evaluation mode."""
        ...


class TrainableFactory(Protocol):
    """A registered architecture in its training form, freshly initialised."""

    __doc__: str | None

    def __call__(self, scale: int, channels: int) -> nn.Module:
        """The module, in training mode; initial values follow torch's global seed."""
        ...


class Method(Protocol):
    """A registered method: a frozen dataclass whose fields are the recipe and whose call does the work."""

    __doc__: str | None

    def __call__(self, network: Network, task: Task) -> Network:
        """A changed network; the one given is left as it was."""
        ...
