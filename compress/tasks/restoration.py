"""Restoration: an image in, a better one of the same size out; PSNR on all channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.data import builtin, degraded, folder
from compress.data.crops import cut_in_turn
from compress.data.images import read_rgb, to_channels
from compress.errors import DataError, UsageError
from compress.evaluate import luma, psnr, ssim, to_uint8
from compress.network import Network
from compress.registry import TASKS
from compress.task import Data, ItemScore, Run, Scores, hold_out, refuse_shared

__all__ = ["Restoration", "restoration"]

_PSNR_CAP = 100.0


@dataclass(frozen=True)
class Restoration:
    """Restoration on a set of pairs of a degraded and a clean image."""

    channels: int
    evaluation: tuple[degraded.DegradedPair, ...]
    calibration: tuple[Path, ...]
    """Clean images, never those of the evaluation."""
    noise: float
    """Standard deviation of the noise added to clean images, grey levels."""
    protocol: str
    scale: int = 1
    name: str = "restoration"
    metric: str = "PSNR dB"
    unit: str = "dB"
    floor_name: str = "input"

    @property
    def size(self) -> int:
        """How many images it is judged on."""
        return len(self.evaluation)

    def files(self) -> list[Path]:
        """Every file that decides the numbers."""
        return [*(f for pair in self.evaluation for f in pair.files()), *self.calibration]

    def training_images(self) -> tuple[Path, ...]:
        """The clean images of the calibration."""
        return self.calibration

    def sample(self) -> NDArray[np.float32]:
        """The first degraded image."""
        return self._input(self.evaluation[0].load()[0])

    def _input(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        return to_channels(image, self.channels).astype(np.float32) / np.float32(255.0)

    def judge(self, run: Run, progress: Callable[[int], None]) -> Scores:
        """Scores of a function that maps a degraded image to a restored one."""
        return self._scores(lambda image: to_uint8(run(self._input(image))), progress)

    def floor(self, progress: Callable[[int], None]) -> Scores:
        """Scores of the degraded images themselves."""
        return self._scores(lambda image: to_channels(image, self.channels), progress)

    def _scores(
        self, restore: Callable[[NDArray[np.uint8]], NDArray[np.uint8]], progress: Callable[[int], None]
    ) -> Scores:
        items = []
        for done, pair in enumerate(self.evaluation, start=1):
            bad, good = pair.load()
            output, reference = restore(bad), to_channels(good, self.channels)
            value = psnr(output.astype(np.float64), reference.astype(np.float64))
            likeness = ssim(luma(to_channels(output, 3)), luma(to_channels(reference, 3)))
            items.append(ItemScore(pair.name, min(value, _PSNR_CAP), None if np.isnan(likeness) else likeness))
            progress(done)
        return Scores(self.protocol, self.unit, tuple(items))

    def calibration_inputs(self, count: int, size: int, seed: int) -> list[NDArray[np.float32]]:
        """Crops (size, size, C) of the calibration images with noise added, taken from all of them in turn.

        Raises:
            DataError: there are no calibration images, or one is unreadable.
        """
        crops = cut_in_turn(self.calibration, read_rgb, count, size, seed)
        return [self._input(degraded.add_noise(crop, self.noise)) for crop in crops]

    def held_out(self, network: Network) -> Restoration:
        """Judged on some of the calibration images with noise added, calibrated on the others."""
        if not self.calibration:
            raise DataError("no calibration images; give --calibration DIR with at least one image")
        held, rest = hold_out(self.calibration)
        pairs = tuple(degraded.DegradedPair(p.stem, p, None, self.noise) for p in held)
        return replace(self, evaluation=pairs, calibration=rest)


@TASKS.add("restoration")
def restoration(network: Network, data: Data) -> Restoration:
    """Denoising and other restoration at the same size; PSNR on all channels, SSIM on luma.

    Raises:
        DataError: an unusable folder, or one picture used for both calibration and evaluation.
        UsageError: the network gives no image of the size that it takes.
    """
    if network.classes is not None or network.scale != 1:
        what = "logits" if network.classes is not None else f"images {network.scale} times as large"
        raise UsageError(f"task restoration: {network.name} gives {what}, expected an image of its size; drop --task")
    pairs = degraded.pairs(data.evaluation, data.noise)
    images = folder.find_hr(data.calibration)[0] if data.calibration else builtin.calibration_images()
    refuse_shared([f for p in pairs for f in p.files()], images)
    made = all(pair.degraded_path is None for pair in pairs)
    kind = f"noise{data.noise:g}" if made else "pairs"
    protocol = f"restoration-{kind}-{'grey' if network.channels == 1 else 'rgb'}-uint8"
    return Restoration(network.channels, tuple(pairs), tuple(images), data.noise, protocol)
