"""What changes weights beside the optimizer while a network trains: pruning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from compress.network import Network

__all__ = ["Beginning", "Shaper"]


class Shaper(Protocol):
    """Called at every step, always with the module that trains."""

    def on_gradients(self, module: nn.Module, step: int) -> None:
        """Before the optimizer's step, when all gradients are there."""
        ...

    def on_weights(self, module: nn.Module, step: int) -> None:
        """After the optimizer's step."""
        ...

    def finish(self, module: nn.Module) -> None:
        """Give an average of the module the form that is deployed; called on copies too."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold so that a resumed run goes on as it would have."""
        ...

    def load(self, state: dict[str, Tensor]) -> None:
        """Take up what :meth:`state` gave."""
        ...


@dataclass(frozen=True)
class Beginning:
    """A network to train on, in its training form, and what shapes it."""

    network: Network
    shaper: Shaper | None = None
