"""A NumPy archive, ``.npz``, of images and labels, as Keras keeps its data sets."""

from __future__ import annotations

import functools
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.data.classes import checked_labels, class_names
from compress.data.layouts import Image, Labelled, Part, entries, none_to_judge, own_name
from compress.errors import DataError

__all__ = ["EXPECTED", "lies_in", "read"]

EXPECTED = "one .npz file with x_test + y_test (x_train + y_train to calibrate on), or images + labels"

_KEYS: dict[Part, tuple[tuple[str, str], ...]] = {
    "evaluation": (("x_test", "y_test"), ("images", "labels")),
    "calibration": (("x_train", "y_train"),),
}
_DAMAGE = (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def lies_in(root: Path) -> bool:
    """Whether this is an archive, or a folder with one."""
    return bool(_archives(root))


def read(root: Path, part: Part) -> Labelled | None:
    """The images of a part; pixels are unpacked at the first use and then kept.

    Images are (N, H, W), (N, H, W, C) or (N, C, H, W), uint8, C = 1 or 3.

    Raises:
        DataError: several archives, no evaluation part, images that are not uint8 or of another shape, objects
            (which are not opened), or labels that do not fit.
    """
    archives = _archives(root)
    if len(archives) > 1:
        names = ", ".join(p.name for p in archives[:8])
        raise DataError(f"data {root}: {len(archives)} archives ({names}), expected one; give the file itself")
    path = archives[0]
    held = _headers(path)
    pair = next((keys for keys in _KEYS[part] if keys[0] in held), None)
    if pair is None:
        if part == "evaluation":
            raise none_to_judge(path, f"x_test + y_test or images + labels in it, not {', '.join(held) or 'nothing'}")
        return None
    images, labels = pair
    if labels not in held:
        raise DataError(f"data {path}: {images} without {labels}, found {', '.join(held)}; expected both")
    shape, dtype = held[images]
    axes = _axes(path, images, shape, dtype)
    classes = class_names(path.parent)
    checked = checked_labels(_member(path, labels), shape[0], classes.titles, path)

    @functools.cache
    def pixels() -> Image:
        return _member(path, images).reshape(*shape, *(1,) * (4 - len(shape))).transpose(axes)

    return Labelled(own_name(root), classes.titles, checked, lambda number: pixels()[number], (path, *classes.files))


def _archives(root: Path) -> list[Path]:
    return [p for p in (entries(root) if root.is_dir() else [root]) if p.suffix == ".npz" and p.is_file()]


def _headers(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype[np.generic]]]:
    """Shape and type of each array, without unpacking it."""
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as member:
                    version = np.lib.format.read_magic(member)
                    old = version == (1, 0)
                    read_header = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
                    shape, _, dtype = read_header(member)
                    found[name.removesuffix(".npy")] = (shape, dtype)
    except _DAMAGE as error:
        raise DataError(f"data {path}: cannot be read as an archive of arrays ({error}); write it again") from None
    return found


def _axes(path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> tuple[int, ...]:
    """The order of axes that makes (N, H, W, C) of the images."""
    if dtype != np.uint8:
        cure = "save plain arrays" if dtype.hasobject else "save 0..255 as uint8"
        raise DataError(f"data {path}: {name} is {dtype}, expected uint8; {cure}")
    if len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3)):
        axes: tuple[int, ...] = (0, 1, 2, 3)
    elif len(shape) == 4 and shape[1] in (1, 3):
        axes = (0, 2, 3, 1)
    else:
        axes = ()
    if not axes or (shape[0] and 0 in shape):
        raise DataError(
            f"data {path}: {name} is {shape}, expected (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3"
        )
    return axes


def _member(path: Path, name: str) -> NDArray[np.uint8]:
    """An array of the archive; objects are refused, not unpickled."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            array: NDArray[np.uint8] = archive[name]
            return array
    except _DAMAGE as error:
        raise DataError(f"data {path}: {name} cannot be read ({error}); write it again") from None
