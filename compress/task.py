"""How a network is judged: its images, its metric with the protocol, its calibration inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.data import builtin, folder
from compress.data.bicubic import downscale
from compress.data.images import read_rgb
from compress.errors import DataError, UsageError, nearest
from compress.evaluate import modcrop, protocol, score, to_uint8
from compress.weights import sha256

__all__ = ["TASKS", "ImageScore", "Scores", "Task", "super_resolution"]

_PSNR_CAP = 100.0


@dataclass(frozen=True)
class ImageScore:
    """The score of one image."""

    name: str
    psnr: float
    """dB on Y, capped at 100 for equal images."""
    ssim: float | None
    """None where the image is smaller than the window."""


@dataclass(frozen=True)
class Scores:
    """The scores of a set of images under one protocol."""

    protocol: str
    images: tuple[ImageScore, ...]

    @property
    def psnr(self) -> float:
        """Mean PSNR, dB."""
        return float(np.mean([i.psnr for i in self.images]))

    @property
    def ssim(self) -> float | None:
        """Mean SSIM over the images that have one."""
        known = [i.ssim for i in self.images if i.ssim is not None]
        return float(np.mean(known)) if known else None

    @property
    def worst(self) -> ImageScore:
        """The image of the lowest PSNR."""
        return min(self.images, key=lambda i: i.psnr)


@dataclass(frozen=True)
class Task:
    """Super-resolution on a set of images."""

    name: str
    scale: int
    evaluation: tuple[folder.Pair, ...]
    calibration: tuple[Path, ...]
    """HR images, never those of the evaluation."""

    @property
    def protocol(self) -> str:
        """The name of the evaluation protocol."""
        return protocol(self.scale)

    def files(self) -> list[Path]:
        """Every file that decides the numbers."""
        return [*(f for pair in self.evaluation for f in pair.files()), *self.calibration]

    def judge(
        self, enlarge: Callable[[NDArray[np.float32]], NDArray[np.float32]], progress: Callable[[int], None]
    ) -> Scores:
        """Scores of a function that maps an LR image (h, w, 3) in [0, 1] to its enlargement.

        Args:
            enlarge: the network or the file, run on whole images.
            progress: called with the number of images done.
        """
        scores = []
        for done, pair in enumerate(self.evaluation, start=1):
            lr, hr = pair.load()
            value = score(to_uint8(enlarge(lr.astype(np.float32) / 255.0)), hr, self.scale)
            ssim = None if np.isnan(value.ssim) else value.ssim
            scores.append(ImageScore(pair.name, min(value.psnr, _PSNR_CAP), ssim))
            progress(done)
        return Scores(self.protocol, tuple(scores))

    def calibration_crops(self, count: int, size: int, seed: int) -> list[NDArray[np.float32]]:
        """LR crops (size, size, 3) in [0, 1], taken from all calibration images in turn, the same for a seed.

        Images smaller than the crop are mirrored on.

        Raises:
            DataError: there are no calibration images, or one is unreadable or smaller than the scale.
        """
        if not self.calibration:
            raise DataError("no calibration images; give --calibration DIR with at least one image")
        random = np.random.default_rng(seed)
        crops: list[NDArray[np.float32]] = []
        shares = np.array_split(np.arange(count), len(self.calibration))
        for path, share in zip(self.calibration, shares, strict=True):
            if len(share):
                lr = _lr_image(path, self.scale, size)
                for _ in share:
                    top, left = (int(random.integers(0, side - size + 1)) for side in lr.shape[:2])
                    crops.append(lr[top : top + size, left : left + size].astype(np.float32) / 255.0)
        return crops


def _lr_image(path: Path, scale: int, size: int) -> NDArray[np.uint8]:
    hr = read_rgb(path)
    if min(hr.shape[:2]) < scale:
        raise DataError(f"calibration image {path}: {hr.shape[1]}x{hr.shape[0]} is smaller than scale {scale}")
    lr = downscale(modcrop(hr, scale), scale)
    missing = [(0, max(0, size - side)) for side in lr.shape[:2]]
    return np.pad(lr, [*missing, (0, 0)], mode="symmetric")


def _same_content(first: Sequence[Path], second: Sequence[Path]) -> list[Path]:
    """The files of ``first`` of which ``second`` holds a copy."""
    sizes = {path.stat().st_size for path in second}
    candidates = [path for path in first if path.stat().st_size in sizes]
    known = {sha256(path) for path in second} if candidates else set()
    return [path for path in candidates if sha256(path) in known]


def super_resolution(scale: int, data: Path | None, calibration: Path | None) -> Task:
    """Super-resolution by ``scale``, judged on a folder of images or on the built-in photographs.

    Raises:
        DataError: an unusable folder, or one picture used for both calibration and evaluation.
    """
    pairs = (
        folder.pairs(data, scale)
        if data
        else [folder.Pair(p.stem, p, None, scale) for p in builtin.evaluation_images()]
    )
    images = folder.find_hr(calibration)[0] if calibration else builtin.calibration_images()
    shared = _same_content([p.hr_path for p in pairs], images)
    if shared:
        raise DataError(
            f"{len(shared)} images are both in --data and in --calibration, e.g. {shared[0]}; "
            "keep them apart, or the scores flatter the file"
        )
    return Task("super-resolution", scale, tuple(pairs), tuple(images))


class _Tasks(dict[str, Callable[[int, Path | None, Path | None], Task]]):
    """Task name to its builder."""

    def __missing__(self, name: str) -> Callable[[int, Path | None, Path | None], Task]:
        raise UsageError(f"unknown task {name!r}; {nearest(name, self)}")


TASKS = _Tasks({"super-resolution": super_resolution})
