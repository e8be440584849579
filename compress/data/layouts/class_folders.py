"""One folder of image files a class, with or without a folder a part around them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compress.data.classes import ClassNames, class_names
from compress.data.folder import listing
from compress.data.images import SUFFIXES, list_images, read_rgb
from compress.data.layouts import Labelled, Part, entries, none_to_judge, own_name
from compress.errors import DataError

__all__ = ["EXPECTED", "lies_in", "read"]

EXPECTED = "folders CLASS/*.png (or val/CLASS/ or test/CLASS/, with train/CLASS/ to calibrate on)"

_PARTS: dict[Part, tuple[str, ...]] = {
    "evaluation": ("val", "validation", "test"),
    "calibration": ("train", "training"),
}


def lies_in(root: Path) -> bool:
    """Whether a folder of images lies here, or inside a folder named as a part."""
    return bool(_class_folders(root)) or any(_part_folder(root, part) for part in _PARTS)


def read(root: Path, part: Part) -> Labelled | None:
    """The image files of a part.

    A class's index is its place in the list ``classes.txt`` (or ``.json``), else among the sorted folder names.

    Raises:
        DataError: no evaluation part, a class folder that is empty or not listed, fewer than two classes, or
            evaluation classes that the training part does not have.
    """
    folder, train = _part_folder(root, part), _part_folder(root, "calibration")
    if folder is None and train is None and not _part_folder(root, "evaluation"):
        folder = root if part == "evaluation" else None
    if folder is None:
        if part == "evaluation":
            raise none_to_judge(root, "val/CLASS/ or test/CLASS/ beside it")
        return None
    found = {f.name: _images(f) for f in entries(folder) if f.is_dir() and f.name != "__MACOSX"}
    names = _listed(root, folder)
    _refuse_strangers(folder, list(found), names)
    if not names.keys:
        order = _sorted_names(folder, list(found), train or folder)
        names = ClassNames(order, order)
    if len(names.keys) < 2:
        raise DataError(f"data {folder}: one class only ({names.keys[0]}/), expected a folder for each of two or more")
    index = {key: number for number, key in enumerate(names.keys)}
    paths = [(path, index[name]) for name, images in found.items() for path in images]
    files = [path for path, _ in paths]
    labels = np.array([label for _, label in paths], np.int64)
    return Labelled(
        own_name(root), names.titles, labels, lambda number: read_rgb(files[number]), (*files, *names.files)
    )


def _class_folders(folder: Path) -> list[Path]:
    """The folders inside that hold images, directly or in ``images/``."""
    return [f for f in entries(folder) if f.is_dir() and (_has_image(f) or _has_image(f / "images"))]


def _has_image(folder: Path) -> bool:
    """Whether there is an image; as soon as one is seen, because folders may hold many."""
    return folder.is_dir() and any(p.suffix.lower() in SUFFIXES and p.name[0] != "." for p in folder.iterdir())


def _images(folder: Path) -> list[Path]:
    """The images of a class, directly inside or in ``images/`` as Tiny ImageNet has them."""
    inner = folder / "images"
    images = list_images(folder) or (list_images(inner) if inner.is_dir() else [])
    if not images:
        raise DataError(
            f"class folder {folder}: no images, found {listing(folder)}; put its images there or remove the folder"
        )
    return images


def _part_folder(root: Path, part: Part) -> Path | None:
    """The folder of a part, told from a class called ``train`` by the class folders inside."""
    folders = (root / name for name in _PARTS[part])
    return next((f for f in folders if f.is_dir() and _class_folders(f)), None)


def _listed(root: Path, folder: Path) -> ClassNames:
    names = class_names(root)
    return names if names.keys else class_names(folder)


def _refuse_strangers(folder: Path, found: list[str], names: ClassNames) -> None:
    strangers = sorted(set(found) - set(names.keys))
    if names.keys and strangers:
        raise DataError(
            f"data {folder}: folders {', '.join(strangers[:8])} are not among the {len(names.keys)} classes of "
            f"{names.files[0]}, expected such as {names.keys[0]}; rename the folders or mend the list"
        )


def _sorted_names(folder: Path, found: list[str], train: Path) -> tuple[str, ...]:
    """The classes as training saw them: its sorted folder names, among which those found must be."""
    trained = sorted(f.name for f in _class_folders(train))
    strangers = sorted(set(found) - set(trained))
    if strangers:
        raise DataError(
            f"data {folder}: folders {', '.join(strangers[:8])} have no partner in {train}, expected the same class "
            f"folders as there ({', '.join(trained[:8])}); or list all classes in classes.txt"
        )
    return tuple(trained)
