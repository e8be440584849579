"""Labelled images: classification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from numpy.typing import NDArray
from torch import Tensor, nn

from compress.data import labelled
from compress.errors import DataError
from compress.train.examples import Batch
from compress.train.recipe import TrainRecipe

__all__ = ["Naming", "prepare_naming"]

_MARGIN = 8  # a crop moves by a part of this of the side: 4 pixels of 32 (He et al., arXiv:1512.03385, section 4.2)
_VALIDATION_BATCH = 64


@dataclass(frozen=True)
class Naming:
    """Classification: images mirrored and shifted at random, and their labels."""

    recipe: TrainRecipe
    images: labelled.Labelled
    chosen: NDArray[np.int64]
    """Indices to train on."""
    held: NDArray[np.int64]
    channels: int
    input_size: tuple[int, int]
    crop_share: float
    metric: str = "top-1 %"
    protocol: str = "classification-top1"
    teacher_runs_live: bool = True

    def batch(self, step: int) -> Batch:
        """Images (N, C, H, W) uint8 and labels (N,)."""
        random = np.random.default_rng([self.recipe.seed, step])
        indices = self._drawn(step)
        images = np.stack([self._changed(int(i), random) for i in indices])
        return torch.from_numpy(images), torch.from_numpy(self.images.labels[indices])

    def _drawn(self, step: int) -> NDArray[np.int64]:
        """Without repetition within an epoch; each epoch in an order of its own."""
        places = np.arange(step * self.recipe.batch, (step + 1) * self.recipe.batch)
        epochs, positions = np.divmod(places, len(self.chosen))
        orders = {e: np.random.default_rng([self.recipe.seed, int(e), 7]).permutation(self.chosen) for e in set(epochs)}
        return np.array([orders[e][p] for e, p in zip(epochs, positions, strict=True)])

    def _changed(self, index: int, random: np.random.Generator) -> NDArray[np.uint8]:
        image = (labelled.fit(self.images.load(index), *self._wanted) * np.float32(255)).round().astype(np.uint8)
        height, width = self.input_size
        margins = (max(1, height // _MARGIN), max(1, width // _MARGIN))
        padded = np.pad(image, [(margins[0],) * 2, (margins[1],) * 2, (0, 0)])
        top, left = (int(random.integers(0, 2 * margin + 1)) for margin in margins)
        part = padded[top : top + height, left : left + width]
        return np.ascontiguousarray((part[:, ::-1] if random.integers(2) else part).transpose(2, 0, 1))

    @property
    def _wanted(self) -> tuple[int, tuple[int, int], float]:
        return self.channels, self.input_size, self.crop_share

    def inputs(self, batch: Batch) -> Tensor:
        """The images in [0, 1]."""
        return batch[0].contiguous(memory_format=torch.channels_last).float() / 255.0

    def loss(self, output: Tensor, batch: Batch, taught: Tensor | None) -> Tensor:
        """Cross-entropy, and the divergence from the teacher's softened output (arXiv:1503.02531, section 2)."""
        to_truth = F.cross_entropy(output, batch[1])
        if taught is None:
            return to_truth
        heat, weight = self.recipe.temperature, self.recipe.teacher_weight
        to_teacher = F.kl_div(
            F.log_softmax(output / heat, 1), F.log_softmax(taught / heat, 1), reduction="batchmean", log_target=True
        )
        return (1 - weight) * to_truth + weight * heat**2 * to_teacher

    def validate(self, module: nn.Module) -> float:
        """Top-1 accuracy, per cent."""
        device, right = next(module.parameters()).device, 0
        with torch.inference_mode():
            for start in range(0, len(self.held), _VALIDATION_BATCH):
                indices = self.held[start : start + _VALIDATION_BATCH]
                images = np.stack([labelled.fit(self.images.load(int(i)), *self._wanted) for i in indices])
                x = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).to(device)
                right += int((module(x).argmax(1).cpu().numpy() == self.images.labels[indices]).sum())
        return 100.0 * right / len(self.held)


def prepare_naming(
    recipe: TrainRecipe,
    data: Sequence[Path] | labelled.Labelled,
    channels: int,
    input_size: tuple[int, int],
    crop_share: float,
    classes: int,
) -> Naming:
    """Labelled images, or the training part of one folder of them, every n-th held out.

    Raises:
        DataError: more than one folder, no training part, too few images, or labels that the network does not have.
    """
    images = data if isinstance(data, labelled.Labelled) else _found(data)
    if images.count < 2:
        raise DataError(f"data {images.name}: one labelled image; training takes one, validation another")
    largest = int(images.labels.max())
    if largest >= classes:
        raise DataError(
            f"data {images.name}: labels up to {largest}, but the network tells {classes} classes apart; "
            "set classes in the recipe's [sizes]"
        )
    order = np.random.default_rng(recipe.seed).permutation(images.count)
    held = np.sort(order[:: recipe.holdout_every])
    return Naming(recipe, images, np.setdiff1d(order, held), held, channels, input_size, crop_share)


def _found(data: Sequence[Path]) -> labelled.Labelled:
    if len(data) != 1:
        raise DataError(f"classification trains on one --data, found {len(data)}")
    images = labelled.find(data[0], "calibration") or labelled.find(data[0], "evaluation")
    if images is None:
        raise DataError(f"data {data[0]}: no labelled images to train on")
    return images
