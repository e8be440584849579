"""Pairs of a degraded and a clean image of one size, for restoration: both from disk, or with noise added here."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.data import builtin
from compress.data.folder import images_in, listing
from compress.data.images import list_images, read_rgb
from compress.errors import DataError, UsageError

__all__ = ["DegradedPair", "add_noise", "pairs"]

Image = NDArray[np.uint8]

# Folder names and the words that files may end in, in small letters.
_CLEAN = ("gt", "hr", "clean", "target", "groundtruth")
_DEGRADED = ("lq", "lr", "noisy", "input", "degraded")
_EXPECTED = (
    "image files there, to which noise is added, or a folder of clean images (GT, HR, clean, target, groundtruth) "
    "with a folder of degraded ones (LQ, LR, noisy, input, degraded) beside it"
)


@dataclass(frozen=True)
class DegradedPair:
    """One evaluation image, read when asked for."""

    name: str
    clean_path: Path
    degraded_path: Path | None
    """None: the degraded image is the clean one with noise."""
    sigma: float
    """Standard deviation of that noise on the scale of 0..255; unused where the degraded image is a file."""

    def load(self) -> tuple[Image, Image]:
        """The degraded and the clean image, both (H, W, 3), uint8.

        Raises:
            DataError: unreadable, or of unequal sizes.
        """
        clean = read_rgb(self.clean_path)
        if self.degraded_path is None:
            return add_noise(clean, self.sigma), clean
        degraded = read_rgb(self.degraded_path)
        if degraded.shape != clean.shape:
            raise DataError(
                f"pair {self.name}: degraded {self.degraded_path} is {degraded.shape[1]}x{degraded.shape[0]}, expected "
                f"{clean.shape[1]}x{clean.shape[0]} as {self.clean_path}; restoration keeps the size"
            )
        return degraded, clean

    def files(self) -> list[Path]:
        """The files behind this pair."""
        return [self.clean_path] if self.degraded_path is None else [self.clean_path, self.degraded_path]


def add_noise(image: Image, sigma: float) -> Image:
    """An image with white Gaussian noise, clipped and rounded to uint8, as a camera's file would hold it.

    The noise is drawn from a seed that is the image's content: the same at every call, whatever the file is called
    and whichever images are scored beside it; ``sigma`` scales one and the same draw.

    Papers on denoising add the noise to floats and neither clip nor round (DnCNN, arXiv:1608.03981, and most since),
    so that dark and bright areas keep noise of zero mean and full variance. Clipping takes some of it away: noisy
    images come out closer to the clean ones (the built-in photographs and Set5 together at sigma 25: 20.7 dB, not
    20.2; at 50: 15.2, not 14.2), while networks trained on unclipped noise may lose a little (0.15 dB in juglab/n2v
    issue 74), and next to nothing once they are trained on clipped noise (cszn/KAIR issue 98). Scores are therefore
    not to be put beside such tables without saying so. Rounding adds a variance of 1/12, which does not matter.

    Args:
        image: any shape, uint8.
        sigma: standard deviation of the noise on the scale of 0..255, from 0.
    """
    content = hashlib.sha256(f"{image.shape}".encode() + image.tobytes())
    random = np.random.default_rng(int.from_bytes(content.digest(), "big"))
    noisy: Image = np.clip(np.rint(image + sigma * random.standard_normal(image.shape)), 0, 255).astype(np.uint8)
    return noisy


def pairs(root: Path | None, sigma: float) -> list[DegradedPair]:
    """The evaluation pairs of a folder, or of the built-in photographs.

    Layouts: images directly inside (clean; noise of ``sigma`` is added), or a folder of clean images
    (``GT``, ``HR``, ``clean``, ``target`` or ``groundtruth``, in small or capital letters) with, if they are not to
    be made by noise, a folder of degraded ones beside it (``LQ``, ``LR``, ``noisy``, ``input`` or ``degraded``).
    Partners carry the same name, or such a word at its end: ``a_noisy.png`` for ``a.png`` or ``a_gt.png``.

    Args:
        root: the folder; None: the built-in evaluation photographs.
        sigma: standard deviation of the noise on the scale of 0..255, from 0; see :func:`add_noise`.

    Raises:
        UsageError: a sigma below 0 or not finite.
        DataError: no such folder, no images where they are expected, several folders of one kind, or partners that
            are missing or not unique.
    """
    if not (math.isfinite(sigma) and sigma >= 0):
        raise UsageError(f"noise of sigma {sigma}: expected a finite number from 0, on the scale of 0..255")
    if root is None:
        return [DegradedPair(p.stem, p, None, sigma) for p in builtin.evaluation_images()]
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise DataError(f"data {root}: {what}; give a folder with {_EXPECTED}")
    clean, degraded = _one_of(root, _CLEAN), _one_of(root, _DEGRADED)
    if clean is None:
        if degraded is not None and not list_images(root):
            raise DataError(f"data {root}: {degraded.name}/ without clean images, found {listing(root)}; expected GT/")
        return [DegradedPair(p.stem, p, None, sigma) for p in images_in(root, _EXPECTED)]
    images = images_in(clean, "the clean images")
    if degraded is None or not list_images(degraded):
        return [DegradedPair(p.stem, p, None, sigma) for p in images]
    partners = _partners(images, degraded)
    return [DegradedPair(p.stem, p, partner, sigma) for p, partner in zip(images, partners, strict=True)]


def _one_of(root: Path, names: tuple[str, ...]) -> Path | None:
    """The folder that carries one of the names: the one with images in it, or an empty one if there is no other."""
    named = sorted(p for p in root.iterdir() if p.name.lower() in names and p.is_dir())
    filled = [p for p in named if list_images(p)]
    if len(filled) > 1:
        found = ", ".join(p.name + "/" for p in filled)
        raise DataError(f"data {root}: {found} could all be meant, expected one of them; move the others away")
    return next(iter(filled or named), None)


def _key(path: Path, words: tuple[str, ...]) -> str:
    """The stem without a word such as ``_noisy`` at its end."""
    return next((path.stem[: -len(word) - 1] for word in words if path.stem.lower().endswith(f"_{word}")), path.stem)


def _partners(images: list[Path], folder: Path) -> list[Path]:
    """The degraded file of each clean one: of the same stem, else of the same stem but for a word."""
    degraded = images_in(folder, "the degraded images")
    by_stem = {p.stem: p for p in degraded}
    by_key: dict[str, list[Path]] = {}
    for path in degraded:
        by_key.setdefault(_key(path, _DEGRADED), []).append(path)
    found = {p: [by_stem[p.stem]] if p.stem in by_stem else by_key.get(_key(p, _CLEAN), []) for p in images}
    lost = [p.name for p in images if not found[p]]
    if lost:
        raise DataError(
            f"data {folder}: no degraded partner for {', '.join(lost[:10])}, found {listing(folder)}; expected the "
            "clean image's name, or name + '_noisy'"
        )
    for path in images:
        if len(found[path]) > 1:
            names = ", ".join(p.name for p in found[path])
            raise DataError(f"data {folder}: {path.name} has {len(found[path])} partners ({names}), expected one")
    return [found[p][0] for p in images]
