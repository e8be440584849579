"""Super-resolution: PSNR and SSIM on luma against the HR image, LR by MATLAB's bicubic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.data import builtin, folder
from compress.data.bicubic import downscale, upscale
from compress.data.crops import cut_in_turn
from compress.data.images import read_rgb, to_channels
from compress.errors import DataError, UsageError
from compress.evaluate import modcrop, protocol, score, to_uint8
from compress.network import Network
from compress.registry import TASKS
from compress.task import Data, ItemScore, Run, Scores, hold_out, refuse_shared

__all__ = ["SuperResolution", "super_resolution"]

_PSNR_CAP = 100.0


@dataclass(frozen=True)
class SuperResolution:
    """Super-resolution on a set of images."""

    scale: int
    channels: int
    evaluation: tuple[folder.Pair, ...]
    calibration: tuple[Path, ...]
    """HR images, never those of the evaluation."""
    name: str = "super-resolution"
    metric: str = "PSNR-Y dB"
    unit: str = "dB"
    floor_name: str = "bicubic"

    @property
    def protocol(self) -> str:
        """The name of the evaluation protocol."""
        return protocol(self.scale) + ("-grey" if self.channels == 1 else "")

    @property
    def size(self) -> int:
        """How many images it is judged on."""
        return len(self.evaluation)

    def files(self) -> list[Path]:
        """Every file that decides the numbers."""
        return [*(f for pair in self.evaluation for f in pair.files()), *self.calibration]

    def training_images(self) -> tuple[Path, ...]:
        """The HR images of the calibration."""
        return self.calibration

    def sample(self) -> NDArray[np.float32]:
        """The first LR image."""
        return self._input(self.evaluation[0].load()[0])

    def _input(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        return to_channels(image, self.channels).astype(np.float32) / np.float32(255.0)

    def judge(self, run: Run, progress: Callable[[int], None]) -> Scores:
        """Scores of a function that maps an LR image to its enlargement."""
        return self._scores(lambda lr: to_uint8(run(self._input(lr))), progress)

    def floor(self, progress: Callable[[int], None]) -> Scores:
        """Scores of bicubic enlargement."""
        return self._scores(lambda lr: upscale(lr, self.scale), progress)

    def _scores(
        self, enlarge: Callable[[NDArray[np.uint8]], NDArray[np.uint8]], progress: Callable[[int], None]
    ) -> Scores:
        items = []
        for done, pair in enumerate(self.evaluation, start=1):
            lr, hr = pair.load()
            output = to_channels(enlarge(lr), self.channels)
            value = score(to_channels(output, 3), to_channels(to_channels(hr, self.channels), 3), self.scale)
            ssim = None if np.isnan(value.ssim) else value.ssim
            items.append(ItemScore(pair.name, min(value.psnr, _PSNR_CAP), ssim))
            progress(done)
        return Scores(self.protocol, self.unit, tuple(items))

    def calibration_inputs(self, count: int, size: int, seed: int) -> list[NDArray[np.float32]]:
        """LR crops (size, size, C), taken from all calibration images in turn; small images are mirrored on.

        Raises:
            DataError: there are no calibration images, or one is unreadable or smaller than the scale.
        """
        return [self._input(crop) for crop in cut_in_turn(self.calibration, self._lr_image, count, size, seed)]

    def held_out(self, network: Network) -> SuperResolution:
        """Judged on some of the calibration images, calibrated on the others."""
        if not self.calibration:
            raise DataError("no calibration images; give --calibration DIR with at least one image")
        held, rest = hold_out(self.calibration)
        return replace(self, evaluation=tuple(folder.Pair(p.stem, p, None, self.scale) for p in held), calibration=rest)

    def _lr_image(self, path: Path) -> NDArray[np.uint8]:
        hr = read_rgb(path)
        if min(hr.shape[:2]) < self.scale:
            raise DataError(f"calibration image {path}: {hr.shape[1]}x{hr.shape[0]} is smaller than scale {self.scale}")
        return downscale(modcrop(hr, self.scale), self.scale)


@TASKS.add("super-resolution")
def super_resolution(network: Network, data: Data) -> SuperResolution:
    """Enlarging images; PSNR and SSIM on luma, by the protocol of the literature.

    Raises:
        DataError: an unusable folder, or one picture used for both calibration and evaluation.
        UsageError: the network does not enlarge images.
    """
    if network.classes is not None or network.scale < 2:
        what = "logits" if network.classes is not None else "images of the same size"
        raise UsageError(f"task super-resolution: {network.name} gives {what}, expected enlarged images; drop --task")
    scale = network.scale
    pairs = (
        folder.pairs(data.evaluation, scale)
        if data.evaluation
        else [folder.Pair(p.stem, p, None, scale) for p in builtin.evaluation_images()]
    )
    images = folder.find_hr(data.calibration)[0] if data.calibration else builtin.calibration_images()
    refuse_shared([p.hr_path for p in pairs], images)
    return SuperResolution(scale, network.channels, tuple(pairs), tuple(images))
