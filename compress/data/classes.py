"""Class names and class indices: the files that hold them, and what they must satisfy."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.errors import DataError

__all__ = ["ClassNames", "checked_labels", "class_names", "read_json_labels", "read_text"]

_LISTS = ("classes.txt", "classes.json", "batches.meta.txt")


@dataclass(frozen=True)
class ClassNames:
    """A list of classes, in the order of their indices; empty where the data name none."""

    keys: tuple[str, ...] = ()
    """What folders are called by: the line, up to a tab."""
    titles: tuple[str, ...] = ()
    """What people call them: the part after the tab where there is one."""
    files: tuple[Path, ...] = ()
    """The file behind the list, if any."""


def class_names(folder: Path) -> ClassNames:
    """The classes of ``classes.txt``, ``classes.json`` or CIFAR-10's ``batches.meta.txt``, whichever is there.

    Raises:
        DataError: a list that cannot be read, is empty, or names a class twice.
    """
    path = next((folder / name for name in _LISTS if (folder / name).is_file()), None)
    if path is None:
        return ClassNames()
    lines = _json_names(path) if path.suffix == ".json" else read_text(path).splitlines()
    lines = [line.strip() for line in lines if line.strip()]
    keys = [line.split("\t")[0].strip() for line in lines]
    if not keys:
        raise DataError(f"classes {path}: empty, expected one class name a line; fill or remove it")
    name, times = Counter(keys).most_common(1)[0]
    if times > 1:
        raise DataError(f"classes {path}: {name} is listed {times} times, expected every class once")
    return ClassNames(tuple(keys), tuple(line.split("\t")[-1].strip() for line in lines), (path,))


def _json_names(path: Path) -> list[str]:
    names = _json(path)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f'classes {path}: expected a JSON list of names, as ["cat", "dog"]')
    return names


def read_json_labels(path: Path) -> list[int]:
    """The class indices of a JSON list.

    Raises:
        DataError: unreadable, or not a list of integers.
    """
    labels = _json(path)
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise DataError(f"labels {path}: expected a JSON list of class indices, as [3, 8, 0]")
    return labels


def _json(path: Path) -> Any:
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"file {path}: not JSON ({error}); fetch or write it again") from None


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without a byte order mark.

    Raises:
        DataError: unreadable, or in another encoding.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"file {path}: cannot be read as UTF-8 text ({error}); save it as UTF-8") from None


def checked_labels(values: object, count: int, classes: Sequence[str], path: Path) -> NDArray[np.int64]:
    """Class indices as (count,), checked.

    Args:
        values: class indices (N,), or (N, 1) as Keras keeps CIFAR-10's.
        count: images that there are.
        classes: their names; empty: any index from 0 will do.
        path: where the labels come from, for messages.

    Raises:
        DataError: no images, not as many labels as images, not integers, or an index outside the classes.
    """
    labels = np.asarray(values)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or (labels.size and not np.issubdtype(labels.dtype, np.integer)):
        raise DataError(
            f"labels {path}: {labels.dtype} of shape {labels.shape}, expected integer class indices ({count},); "
            "argmax(1) turns one-hot rows into indices"
        )
    if len(labels) != count:
        raise DataError(f"labels {path}: {len(labels)} labels for {count} images, expected one for each")
    if count == 0:
        raise DataError(f"data {path}: no images, expected at least one")
    most = len(classes) - 1 if classes else int(np.iinfo(np.int64).max)
    wrong = np.flatnonzero((labels < 0) | (labels > most))
    if len(wrong):
        expected = f"0 to {most} ({len(classes)} classes)" if classes else "0 or more"
        raise DataError(f"labels {path}: class {labels[wrong[0]]} of image {wrong[0]}, expected {expected}")
    return labels.astype(np.int64)
