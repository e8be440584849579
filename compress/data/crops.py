"""Training crops: images prepared once as memory-mapped arrays, cut anew for every step.

A batch is a pure function of (seed, step), so a run that was killed resumes with the very batches it
would have seen, and no generator state needs saving.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.data.bicubic import downscale, resize
from compress.data.images import read_rgb
from compress.errors import DataError
from compress.evaluate import modcrop

__all__ = ["Crops", "cut_in_turn", "prepare"]

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Crops:
    """Prepared images on disk, and how to cut batches out of them."""

    folder: Path
    count: int
    scale: int
    crop: int
    """Side of the LR crop, pixels."""

    def batch(self, size: int, seed: int, step: int) -> tuple[Image, Image, Image]:
        """LR (N, 3, c, c), HR and teacher (N, 3, c*scale, c*scale), uint8; flipped and turned at random.

        Images are drawn with a probability proportional to their area.
        """
        random = np.random.default_rng([seed, step])
        areas = np.load(self.folder / "areas.npy")
        chosen = random.choice(self.count, size, p=areas / areas.sum())
        parts = [self._cut(int(i), random) for i in chosen]
        lr, hr, teacher = (np.ascontiguousarray(np.stack(p).transpose(0, 3, 1, 2)) for p in zip(*parts, strict=True))
        return lr, hr, teacher

    def _cut(self, index: int, random: np.random.Generator) -> tuple[Image, Image, Image]:
        lr, hr, teacher = (self._open(index, kind) for kind in ("lr", "hr", "teacher"))
        top = int(random.integers(0, lr.shape[0] - self.crop + 1))
        left = int(random.integers(0, lr.shape[1] - self.crop + 1))
        turns, mirror = int(random.integers(4)), bool(random.integers(2))

        def cut(image: Image, factor: int) -> Image:
            side = self.crop * factor
            part = image[top * factor : top * factor + side, left * factor : left * factor + side]
            part = np.rot90(part, turns)
            return part[:, ::-1] if mirror else part

        return cut(lr, 1), cut(hr, self.scale), cut(teacher, self.scale)

    def _open(self, index: int, kind: str) -> Image:
        path = self.folder / f"{index:05d}.{kind}.npy"
        if kind == "teacher" and not path.exists():
            path = self.folder / f"{index:05d}.hr.npy"
        image: Image = np.load(path, mmap_mode="r")
        return image


def prepare(
    images: Sequence[Path],
    folder: Path,
    crop: tuple[int, int],
    shrink: Sequence[float],
    teacher: Callable[[Image], Image] | None,
    progress: Callable[[int, int], None],
) -> Crops:
    """Decode, shrink, down-scale and (with a teacher) enlarge every image once.

    Args:
        images: HR files.
        folder: where the arrays go; an unfinished folder is continued.
        crop: (scale, side of the LR crop).
        shrink: factors by which each HR image is made smaller as augmentation (1.0 = as it is).
        teacher: LR (h, w, 3) to its enlargement (h*scale, w*scale, 3), uint8.
        progress: called with (done, total).

    Raises:
        DataError: an unreadable image, or none that is as large as the crop.
    """
    scale, side = crop
    folder.mkdir(parents=True, exist_ok=True)
    areas: list[int] = []
    total = len(images) * len(shrink)
    for done, (path, factor) in enumerate((p, f) for p in images for f in shrink):
        progress(done, total)
        hr = _shrunk(read_rgb(path), factor, scale)
        if hr is None or min(hr.shape[:2]) < side * scale:
            continue
        stem = folder / f"{len(areas):05d}"
        made_from = f"{path.resolve()} {path.stat().st_size} x{factor} teacher={teacher is not None}"
        done_mark = stem.with_suffix(".done")
        if not done_mark.exists() or done_mark.read_text() != made_from:
            lr = downscale(hr, scale)
            np.save(stem.with_suffix(".lr.npy"), lr)
            np.save(stem.with_suffix(".hr.npy"), hr)
            if teacher is not None:
                np.save(stem.with_suffix(".teacher.npy"), teacher(lr))
            done_mark.write_text(made_from)
        areas.append(hr.shape[0] * hr.shape[1])
    if not areas:
        raise DataError(
            f"training data: none of {len(images)} images is at least {side * scale}x{side * scale} pixels "
            f"(crop {side} at x{scale}); give larger images or a smaller crop"
        )
    np.save(folder / "areas.npy", np.array(areas))
    progress(total, total)
    return Crops(folder, len(areas), scale, side)


def _shrunk(hr: Image, factor: float, scale: int) -> Image | None:
    height, width = (int(side * factor) for side in hr.shape[:2])
    if min(height, width) < scale:
        return None
    return modcrop(hr if factor == 1.0 else resize(hr, height, width), scale)


def cut_in_turn(
    paths: Sequence[Path], read: Callable[[Path], Image], count: int, size: int, seed: int
) -> Iterator[Image]:
    """Random crops (size, size, C) from all images in turn, one image in memory at a time.

    Images smaller than the crop are mirrored on.

    Raises:
        DataError: there are no images.
    """
    if not paths:
        raise DataError("no calibration images; give --calibration DIR with at least one image")
    random = np.random.default_rng(seed)
    for path, share in zip(paths, np.array_split(np.arange(count), len(paths)), strict=True):
        if len(share):
            image = read(path)
            missing = [(0, max(0, size - side)) for side in image.shape[:2]]
            image = np.pad(image, [*missing, (0, 0)], mode="symmetric")
            for _ in share:
                top, left = (int(random.integers(0, side - size + 1)) for side in image.shape[:2])
                yield image[top : top + size, left : left + size]
