"""Labelled images on disk, one module a layout.

A layout module has ``EXPECTED`` (what to lay out, for messages), ``lies_in(root)`` (whether the folder or file
looks like it, by what lies there) and ``read(root, part)``, which returns a :class:`Labelled`, or None where the
layout has no calibration part, and raises DataError where something is missing, damaged or does not fit the rest.
``compress.data.labelled`` asks them in turn.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from compress.data.folder import listing
from compress.errors import DataError

__all__ = ["Image", "Labelled", "Layout", "Part", "entries", "none_to_judge", "own_name", "part_of"]

Part = Literal["evaluation", "calibration"]
Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images with one class each; pixels are read when asked for."""

    name: str
    """The folder's or file's own name."""
    classes: tuple[str, ...]
    """Names, ``classes[label]``; empty where the data name none: labels are then indices of the network's outputs."""
    labels: NDArray[np.int64]
    """(count,), the class index of each image."""
    reader: Callable[[int], Image]
    """Index in 0..count-1 to (H, W, C)."""
    sources: tuple[Path, ...]

    @property
    def count(self) -> int:
        """How many images, at least 1."""
        return len(self.labels)

    def load(self, index: int) -> Image:
        """One image (H, W, C), uint8, C = 1 or 3; not to be written to, it may be part of a larger array.

        Raises:
            IndexError: an index outside 0..count-1.
            DataError: a file that cannot be read.
        """
        if not 0 <= index < self.count:
            raise IndexError(f"image {index} of {self.name}: there are {self.count}, counted from 0")
        return self.reader(index)

    def files(self) -> list[Path]:
        """Every file that decides images, labels or classes."""
        return list(self.sources)


class Layout(Protocol):
    """What a module of this package is."""

    EXPECTED: str

    def lies_in(self, root: Path) -> bool:
        """Whether an existing folder or file looks like this layout."""
        ...

    def read(self, root: Path, part: Part) -> Labelled | None:
        """The images of a part; None: the layout has no calibration images here."""
        ...


def part_of(name: str) -> Part | None:
    """The part that a file's name tells: ``train`` is for calibration, ``test``, ``t10k`` or ``val`` for evaluation.

    >>> part_of("train_first6000_rows"), part_of("emnist-letters-test-images"), part_of("interval")
    ('calibration', 'evaluation', None)
    """
    word = re.search(r"(?:^|[^a-z])(train|test|t10k|val)", name.lower())
    if word is None:
        return None
    return "calibration" if word[1] == "train" else "evaluation"


def none_to_judge(root: Path, expected: str) -> DataError:
    """The error of data that have calibration images only."""
    found = listing(root) if root.is_dir() else root.name
    return DataError(f"data {root}: nothing to evaluate on, found {found}; expected {expected}")


def own_name(root: Path) -> str:
    """What to call the data: ``.`` and ``..`` are followed."""
    return root.resolve().stem if root.is_file() else root.resolve().name


def entries(root: Path) -> list[Path]:
    """What lies directly in a folder, by name, without hidden things; nothing for a file."""
    return sorted(p for p in root.iterdir() if not p.name.startswith(".")) if root.is_dir() else []
