"""Crops of photographs: super-resolution and denoising."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from numpy.typing import NDArray
from torch import Tensor, nn

from compress.data.crops import Crops, prepare
from compress.data.degraded import DegradedPair
from compress.data.folder import Pair, find_hr
from compress.data.images import to_channels
from compress.errors import UsageError
from compress.evaluate import protocol, psnr, score, to_uint8
from compress.progress import Reporter
from compress.train.examples import Batch
from compress.train.recipe import TrainRecipe

__all__ = ["Denoising", "Enlarging", "prepare_denoising", "prepare_enlarging"]

_CHARBONNIER = 1e-6  # epsilon squared, Lai et al., arXiv:1704.03915, section 3.3
Image = NDArray[np.uint8]


def _distance(kind: str, a: Tensor, b: Tensor) -> Tensor:
    if kind == "charbonnier":
        return torch.sqrt((a - b) ** 2 + _CHARBONNIER).mean()
    return F.mse_loss(a, b) if kind == "l2" else F.l1_loss(a, b)


def _mixed(recipe: TrainRecipe, output: Tensor, truth: Tensor, taught: Tensor | None) -> Tensor:
    """The distance to the truth and, with a teacher, to its output."""
    if taught is None:
        return _distance(recipe.loss, output, truth)
    weight = recipe.teacher_weight
    to_truth, to_teacher = (_distance(recipe.loss, output, other) for other in (truth, taught))
    return (1 - weight) * to_truth + weight * to_teacher


def _unit(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last).float() / 255.0


def on_image(module: nn.Module) -> Callable[[Image], Image]:
    """The module as a function of uint8 images (h, w, C), run where its tensors are."""
    device = next(iter(module.state_dict().values())).device

    def run(image: Image) -> Image:
        with torch.inference_mode():
            x = torch.from_numpy(np.ascontiguousarray(image)).to(device).permute(2, 0, 1)[None].float() / 255.0
            return to_uint8(module(x)[0].permute(1, 2, 0).float().cpu().numpy())

    return run


@dataclass(frozen=True)
class Enlarging:
    """Super-resolution: LR crops, the HR crops, and what the teacher made of the LR image."""

    recipe: TrainRecipe
    crops: Crops
    held: tuple[Pair, ...]
    taught: bool
    metric: str = "PSNR-Y dB"
    teacher_runs_live: bool = False

    @property
    def protocol(self) -> str:
        """The name of the evaluation protocol."""
        return protocol(self.recipe.scale)

    def batch(self, step: int) -> Batch:
        """LR, HR and the teacher's crops, uint8."""
        parts: tuple[Image, ...] = self.crops.batch(self.recipe.batch, self.recipe.seed, step)
        if self.recipe.planes == "one":
            random = np.random.default_rng([self.recipe.seed, step, 3])
            chosen = random.integers(3, size=(len(parts[0]), 1, 1, 1))
            parts = tuple(np.take_along_axis(part, chosen, 1) for part in parts)
        return tuple(torch.from_numpy(part) for part in parts)

    def inputs(self, batch: Batch) -> Tensor:
        """The LR crops."""
        return _unit(batch[0])

    def loss(self, output: Tensor, batch: Batch, taught: Tensor | None) -> Tensor:
        """Distance to HR, and to the teacher's output."""
        return _mixed(self.recipe, output, _unit(batch[1]), _unit(batch[2]) if self.taught else None)

    def validate(self, module: nn.Module) -> float:
        """Mean PSNR by the protocol."""
        enlarge = on_image(module)
        pairs = (pair.load() for pair in self.held)
        return float(np.mean([score(enlarge(lr), hr, self.recipe.scale).psnr for lr, hr in pairs]))


@dataclass(frozen=True)
class Denoising:
    """Restoration: clean crops, to which noise is added anew at each step."""

    recipe: TrainRecipe
    crops: Crops
    held: tuple[DegradedPair, ...]
    channels: int
    metric: str = "PSNR dB"
    teacher_runs_live: bool = True

    @property
    def protocol(self) -> str:
        """The name of the evaluation protocol."""
        return f"restoration-noise{self.recipe.noise:g}-{'grey' if self.channels == 1 else 'rgb'}-uint8"

    def batch(self, step: int) -> Batch:
        """Noisy and clean crops, uint8."""
        _, clean, _ = self.crops.batch(self.recipe.batch, self.recipe.seed, step)
        if self.channels == 1:
            clean = to_channels(clean.transpose(0, 2, 3, 1).reshape(-1, self.recipe.crop, 3), 1).reshape(
                len(clean), 1, self.recipe.crop, self.recipe.crop
            )
        random = np.random.default_rng([self.recipe.seed, step, 1])
        noisy = np.clip(np.rint(clean + self.recipe.noise * random.standard_normal(clean.shape)), 0, 255)
        return torch.from_numpy(noisy.astype(np.uint8)), torch.from_numpy(clean)

    def inputs(self, batch: Batch) -> Tensor:
        """The noisy crops."""
        return _unit(batch[0])

    def loss(self, output: Tensor, batch: Batch, taught: Tensor | None) -> Tensor:
        """Distance to the clean crops, and to the teacher's output."""
        return _mixed(self.recipe, output, _unit(batch[1]), taught)

    def validate(self, module: nn.Module) -> float:
        """Mean PSNR over all channels."""
        restore = on_image(module)
        pairs = ([to_channels(image, self.channels) for image in pair.load()] for pair in self.held)
        values = [psnr(restore(bad).astype(np.float64), good.astype(np.float64)) for bad, good in pairs]
        return float(np.mean(values))


def _split(recipe: TrainRecipe, data: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Images to train on, and those held out."""
    images = [image for given in data for image in ([given] if given.is_file() else find_hr(given)[0])]
    held = images[:: recipe.holdout_every]
    return [i for i in images if i not in set(held)], held


def prepare_enlarging(
    recipe: TrainRecipe, data: Sequence[Path], folder: Path, teacher: nn.Module | None, reporter: Reporter
) -> Enlarging:
    """Decode, shrink, down-scale and enlarge (by the teacher) every image once, into a folder."""
    images, held = _split(recipe, data)
    crops = _prepared(
        recipe, images, folder, recipe.scale, on_image(teacher) if teacher is not None else None, reporter
    )
    pairs = tuple(Pair(p.stem, p, None, recipe.scale) for p in held)
    return Enlarging(recipe, crops, pairs, teacher is not None)


def prepare_denoising(
    recipe: TrainRecipe, data: Sequence[Path], folder: Path, channels: int, reporter: Reporter
) -> Denoising:
    """Decode and shrink every image once, into a folder."""
    if recipe.noise == 0:
        raise UsageError("the recipe sets noise = 0: there is nothing to remove; set it to grey levels, e.g. 25")
    images, held = _split(recipe, data)
    crops = _prepared(recipe, images, folder, 1, None, reporter)
    pairs = tuple(DegradedPair(p.stem, p, None, recipe.noise) for p in held)
    return Denoising(recipe, crops, pairs, channels)


def _prepared(
    recipe: TrainRecipe,
    images: Sequence[Path],
    folder: Path,
    scale: int,
    enlarge: Callable[[Image], Image] | None,
    reporter: Reporter,
) -> Crops:
    with reporter.bar("preparing training images", len(images) * len(recipe.shrink)) as update:
        size = (scale, recipe.crop)
        return prepare(images, folder, size, recipe.shrink, enlarge, lambda done, total: update(done))
