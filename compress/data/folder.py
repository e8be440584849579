"""A user's folder of images: HR alone, or HR with LR partners."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.data.bicubic import downscale
from compress.data.images import SUFFIXES, list_images, read_rgb
from compress.errors import DataError
from compress.evaluate import modcrop

__all__ = ["Pair", "find_hr", "images_in", "listing", "pairs"]

_EXPECTED = "image files there, or a folder HR/ with an optional LRbicx4/ beside it"


@dataclass(frozen=True)
class Pair:
    """One evaluation image, read when asked for."""

    name: str
    hr_path: Path
    lr_path: Path | None
    """None: the LR image is made from the HR image by MATLAB's bicubic."""
    scale: int

    def load(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """LR (h, w, 3) and HR (h*scale, w*scale, 3), uint8.

        Raises:
            DataError: unreadable, too small for the protocol, or sizes that do not belong together.
        """
        hr = read_rgb(self.hr_path)
        if min(hr.shape[:2]) < 3 * self.scale:
            raise DataError(
                f"image {self.hr_path}: {hr.shape[1]}x{hr.shape[0]} pixels, at x{self.scale} at least "
                f"{3 * self.scale} a side are needed (the protocol cuts {self.scale} from each side); remove the file"
            )
        hr = modcrop(hr, self.scale)
        if self.lr_path is None:
            return downscale(hr, self.scale), hr
        lr = read_rgb(self.lr_path)
        if tuple(side * self.scale for side in lr.shape[:2]) != hr.shape[:2]:
            raise DataError(
                f"pair {self.name}: LR {self.lr_path} is {lr.shape[1]}x{lr.shape[0]}, expected "
                f"{hr.shape[1] // self.scale}x{hr.shape[0] // self.scale} (HR / {self.scale}); check --scale"
            )
        return lr, hr

    def files(self) -> list[Path]:
        """The files behind this pair."""
        return [self.hr_path] if self.lr_path is None else [self.hr_path, self.lr_path]


def _lr_folders(root: Path, scale: int) -> list[Path]:
    """Where data sets keep the LR images of a scale: ours, DIV2K's, BasicSR's."""
    names = (
        f"LRbicx{scale}",
        f"LR_bicubic/X{scale}",
        f"LRx{scale}",
        f"LR_x{scale}",
        f"LR/x{scale}",
        f"LR/X{scale}",
        "LR",
    )
    return [root / n for n in names]


def find_hr(root: Path) -> tuple[list[Path], Path | None]:
    """The HR images under a folder, and the folder that may hold LR partners.

    Raises:
        DataError: no such folder, or no images where they are expected.
    """
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise DataError(f"data {root}: {what}; give a folder of HR images, or one with HR/ and LRbicx4/ inside")
    for folder in (root / "HR", root / "hr"):
        if folder.is_dir():
            return images_in(folder, _EXPECTED), root
    return images_in(root, _EXPECTED), None


def listing(folder: Path, most: int = 8) -> str:
    """What lies in a folder, for messages: up to ``most`` names, folders with a slash; ``nothing`` if it is empty."""
    entries = sorted(p.name + "/" * p.is_dir() for p in folder.iterdir())
    return ", ".join(entries[:most]) + (" ..." if len(entries) > most else "") or "nothing"


def images_in(folder: Path, expected: str) -> list[Path]:
    """The images directly inside a folder, at least one, no two of the same stem.

    Args:
        folder: an existing folder.
        expected: what should have lain there, for the message.

    Raises:
        DataError: no images, or two whose names differ in the suffix only.
    """
    images = list_images(folder)
    if not images:
        raise DataError(
            f"data {folder}: no images ({', '.join(SUFFIXES)}), found {listing(folder)}; expected {expected}"
        )
    stems = [p.stem for p in images]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise DataError(f"data {folder}: two files are called {twice[0]} but for their suffix; rename or remove one")
    return images


def pairs(root: Path, scale: int) -> list[Pair]:
    """The evaluation pairs of a folder.

    Layouts: images directly inside (HR), or ``HR/`` with an optional LR folder beside it (``LRbicx4``,
    DIV2K's ``LR_bicubic/X4``, ``LRx4``, ``LR/x4`` or ``LR``), whose files carry the HR name, with or
    without a trailing ``x4``.

    Raises:
        DataError: as :func:`find_hr`, or an LR folder that misses partners.
    """
    images, base = find_hr(root)
    lr_folder = next((f for f in _lr_folders(base, scale) if f.is_dir() and list_images(f)), None) if base else None
    if lr_folder is None:
        return [Pair(p.stem, p, None, scale) for p in images]
    by_stem = {p.stem: p for p in list_images(lr_folder)}
    partners = {p: by_stem.get(p.stem) or by_stem.get(f"{p.stem}x{scale}") for p in images}
    lost = [p.name for p, lr in partners.items() if lr is None]
    if lost:
        raise DataError(
            f"data {lr_folder}: no LR partner for {', '.join(lost[:10])}; expected the HR name, or name + 'x{scale}'"
        )
    return [Pair(p.stem, p, lr, scale) for p, lr in partners.items()]
