"""CIFAR-10's binary version: a label byte and 3 planes of 32 x 32 a row (format: cs.toronto.edu/~kriz/cifar.html)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.data.classes import checked_labels, class_names
from compress.data.layouts import Labelled, Part, entries, none_to_judge, own_name
from compress.errors import DataError

__all__ = ["EXPECTED", "lies_in", "read"]

EXPECTED = "CIFAR-10's binary version: test_batch.bin, data_batch_*.bin to calibrate on"

_ROW = 1 + 3 * 32 * 32
_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_PATTERNS: dict[Part, str] = {"evaluation": "test_batch", "calibration": "data_batch_*"}


def lies_in(root: Path) -> bool:
    """Whether there are batches, binary or pickled."""
    return any(_batches(root, part, suffix) for part in _PATTERNS for suffix in (".bin", ""))


def read(root: Path, part: Part) -> Labelled | None:
    """The images (32, 32, 3) of a part.

    Raises:
        DataError: pickles, which could run code and are not opened; no evaluation part; a file that is not whole
            rows, or a label outside the ten classes.
    """
    files = _batches(root, part, ".bin")
    pickles = _batches(root, part, "")
    if not files and pickles:
        raise DataError(
            f"data {root}: {pickles[0].name} is CIFAR-10's Python version, a pickle, which may run code when opened "
            "and is not; give the binary version (cifar-10-binary.tar.gz: test_batch.bin, data_batch_1.bin ...)"
        )
    if not files:
        if part == "evaluation":
            raise none_to_judge(root, "test_batch.bin")
        return None
    listed = class_names(root)
    classes = listed.titles or _NAMES
    rows = [_rows(path) for path in files]
    labels = [checked_labels(r[:, 0], len(r), classes, path) for r, path in zip(rows, files, strict=True)]
    planes = (rows[0] if len(rows) == 1 else np.concatenate(rows))[:, 1:].reshape(-1, 3, 32, 32)
    images = planes.transpose(0, 2, 3, 1)
    sources = (*files, *listed.files)
    return Labelled(own_name(root), classes, np.concatenate(labels), lambda number: images[number], sources)


def _batches(root: Path, part: Part, suffix: str) -> list[Path]:
    return [p for p in entries(root) if p.match(_PATTERNS[part] + suffix) and p.suffix == suffix and p.is_file()]


def _rows(path: Path) -> NDArray[np.uint8]:
    """(N, 3073): a label and the pixels each."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"data {path}: cannot be read ({error})") from None
    if len(data) % _ROW:
        raise DataError(
            f"data {path}: {len(data)} bytes, expected a multiple of {_ROW} (a label and 32x32x3 pixels); "
            "the file is damaged or another format, fetch cifar-10-binary.tar.gz again"
        )
    return np.frombuffer(data, np.uint8).reshape(-1, _ROW)
