"""What a training run is at one step, and how it lies on disk."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from compress import zoo
from compress.errors import RunFolderError
from compress.network import SUPER_RESOLUTION
from compress.registry import MODELS
from compress.train.recipe import TrainRecipe
from compress.train.shaping import Beginning, Shaper
from export.files import atomic_path

__all__ = ["State", "start"]


@dataclass
class State:
    """What a checkpoint holds."""

    module: nn.Module
    average: nn.Module
    """Exponential moving average of the module's values."""
    optimizer: torch.optim.Optimizer
    shaper: Shaper | None = None
    step: int = 0

    def follow(self, decay: float) -> None:
        """Move the average towards the module; counters are taken over."""
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.module.parameters()), 1 - decay)
            for mean, value in zip(self.average.buffers(), self.module.buffers(), strict=True):
                if mean.is_floating_point():
                    mean.lerp_(value, 1 - decay)
                else:
                    mean.copy_(value)

    def save(self, path: Path) -> None:
        """Write everything; the file appears when it is complete."""
        content = {
            "module": self.module.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "shaper": self.shaper.state() if self.shaper is not None else {},
            "step": self.step,
        }
        with atomic_path(path) as part:
            torch.save(content, part)

    def load(self, path: Path) -> None:
        """Take up what :meth:`save` wrote.

        Raises:
            RunFolderError: the file is damaged or of another network.
        """
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            self.module.load_state_dict(saved["module"])
            self.average.load_state_dict(saved["average"])
            self.optimizer.load_state_dict(saved["optimizer"])
            if self.shaper is not None:
                self.shaper.load(saved["shaper"])
            self.step = int(saved["step"])
        except Exception as error:  # a damaged file makes the reader raise anything
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise RunFolderError(f"{path}: cannot be taken up ({reason}); start again with another --out") from None


def start(recipe: TrainRecipe, device: torch.device, begin: Beginning | None = None) -> State:
    """A network in its training form, fresh where none is given, and its optimizer.

    Raises:
        UsageError: no such model, or sizes that it does not have.
    """
    if begin is None:
        scale = recipe.scale if MODELS[recipe.model].task == SUPER_RESOLUTION else None
        module = zoo.fresh(recipe.model, scale, recipe.seed, **dict(recipe.sizes)).module
    else:
        module = copy.deepcopy(begin.network.module)
    module = module.to(device).train()
    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "sgd":
        optimizer = torch.optim.SGD(
            module.parameters(), recipe.learning_rate, 0.9, weight_decay=recipe.weight_decay, nesterov=True
        )
    else:
        optimizer = torch.optim.Adam(
            module.parameters(), recipe.learning_rate, (0.9, 0.99), weight_decay=recipe.weight_decay, fused=True
        )
    return State(module, copy.deepcopy(module).eval(), optimizer, begin.shaper if begin is not None else None)
