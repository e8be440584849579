"""What the methods that set single weights to zero share: which weights, which of them, and the training around it.

Layers are ranked by themselves; biases are never pruned (arXiv:2303.09650, section 3).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from compress.errors import UsageError
from compress.methods.reparameterize import merged
from compress.network import Network
from compress.train import TrainRecipe, train
from compress.train.shaping import Beginning
from compress.weights import read
from compress.workshop import Workshop

if TYPE_CHECKING:
    from compress.task import Task

__all__ = ["Masks", "dropped", "prunable", "restarted", "selected", "shaped"]

_MOST = 0.995  # of a layer's weights: none is emptied
_SAMPLE = 32_400  # weights that stand for a large layer (arXiv:2303.09650, the authors' fast_ist_pruner)


def prunable(module: nn.Module, skip: tuple[str, ...]) -> dict[str, Tensor]:
    """The weights of all convolutions and linear layers, by layer name, but for those whose name fits a pattern.

    A weight that several layers share counts once.

    Raises:
        UsageError: none is left, or a pattern fits no layer.
    """
    layers = {n: m for n, m in module.named_modules() if isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Linear))}
    for pattern in skip:
        if not any(fnmatch(name, pattern) for name in layers):
            raise UsageError(f"skip holds {pattern!r}, which fits no layer; layers: {', '.join(list(layers)[:12])}")
    found: dict[str, Tensor] = {}
    for name, layer in layers.items():
        known = any(layer.weight is other for other in found.values())
        if not known and not any(fnmatch(name, pattern) for pattern in skip):
            found[name] = layer.weight
    if not found:
        raise UsageError("no convolution or linear layer is left to prune; drop patterns from skip")
    return found


def dropped(count: int, sparsity: float) -> int:
    """How many of a layer's weights are zero at a sparsity: ceil(p n), at most 99.5 %."""
    return min(math.ceil(round(sparsity * count, 6)), int(_MOST * count))


def selected(weight: Tensor, sparsity: float, exact: bool = True) -> Tensor:
    """The mask of a layer's smallest weights; of a large layer, unless exact, by a threshold from a sample."""
    size, count = weight.abs().flatten(), dropped(weight.numel(), sparsity)
    if count == 0:
        return torch.zeros_like(weight, dtype=torch.bool)
    if not exact and size.numel() > _SAMPLE:
        places = torch.randint(size.numel(), (_SAMPLE,), device=size.device)
        threshold = size[places].kthvalue(max(1, round(count * _SAMPLE / size.numel()))).values
        return weight.abs() <= threshold
    mask = torch.zeros_like(size, dtype=torch.bool)
    mask[size.argsort(stable=True)[:count]] = True
    return mask.view_as(weight)


@dataclass
class Masks:
    """Which weights are gone for good; nothing until :meth:`freeze`."""

    skip: tuple[str, ...]
    gone: dict[str, Tensor] = field(default_factory=dict)
    """By layer: True where a weight is zero."""

    def freeze(self, module: nn.Module, gone: Mapping[str, Tensor]) -> None:
        """Set weights to zero, and keep them there from now on."""
        self.gone = dict(gone)
        self.finish(module)

    @torch.no_grad()
    def finish(self, module: nn.Module) -> None:
        """Zero what is gone."""
        for name, weight in prunable(module, self.skip).items():
            if name in self.gone:
                weight[self.gone[name]] = 0.0

    def on_gradients(self, module: nn.Module, step: int) -> None:
        """Nothing."""

    def on_weights(self, module: nn.Module, step: int) -> None:
        """Keep at zero what is gone."""
        self.finish(module)

    def state(self) -> dict[str, Tensor]:
        """The masks."""
        return dict(self.gone)

    def load(self, state: dict[str, Tensor]) -> None:
        """The masks of a checkpoint."""
        self.gone = dict(state)


def restarted(module: nn.Module, seed: int) -> nn.Module:
    """A copy whose layers have random values again, each as torch starts it."""
    fresh = copy.deepcopy(module)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in fresh.modules():
            start = getattr(part, "reset_parameters", None)
            if callable(start):
                start()
    return fresh


def shaped(
    network: Network, task: Task, workshop: Workshop, settings: Mapping[str, Any], shaper: Masks, scratch: bool
) -> Network:
    """The network, merged, after a training that a shaper takes part in.

    Args:
        network: as the run has it.
        task: gives the images, labelled ones for a classifier.
        workshop: keeps the training, and gives the teacher.
        settings: those of :class:`TrainRecipe`.
        shaper: prunes.
        scratch: whether training begins from random values.

    Raises:
        UsageError: a classifier without labelled images, or nothing to prune.
        DataError: no image that is as large as a crop, or labels that the network does not have.
    """
    plain = merged(network.module)
    try:
        prunable(plain, shaper.skip)
        images = task.training_images()
    except UsageError as error:
        raise UsageError(f"{network.name}: {error}") from None
    begin = replace(network, module=restarted(plain, workshop.seed) if scratch else plain, graph=None)
    teacher = workshop.teacher if settings["teacher_weight"] > 0 else None
    settings = {**settings, "teacher_weight": settings["teacher_weight"] if teacher is not None else 0.0}
    scale: dict[str, Any] = {"scale": network.scale} if network.scale > 1 else {}
    recipe = TrainRecipe(**settings, **scale, model=network.name, seed=workshop.seed)
    with workshop.place() as folder:
        done = folder / "weights.safetensors"
        if not done.is_file():
            known = (folder / "recipe.json").is_file()
            beginning = Beginning(begin, shaper)
            train(recipe, images, folder, teacher, known, workshop.reporter, beginning)
        plain.load_state_dict(read(done))
    return replace(network, module=plain.eval(), graph=None)
