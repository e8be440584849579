"""The idx files of MNIST and Fashion-MNIST, gzipped or not (format: yann.lecun.com/exdb/mnist)."""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.data.classes import checked_labels, class_names
from compress.data.layouts import Labelled, Part, entries, none_to_judge, own_name, part_of
from compress.errors import DataError

__all__ = ["EXPECTED", "lies_in", "read"]

EXPECTED = (
    "t10k-images-idx3-ubyte(.gz) + t10k-labels-idx1-ubyte(.gz), train-images-... + train-labels-... to calibrate on"
)

_IMAGES = re.compile(r"(?P<prefix>.*)images(?P<joint>[-.])idx3-ubyte(\.gz)?")
_UNSIGNED_BYTE = 8


def lies_in(root: Path) -> bool:
    """Whether there is an idx file of images."""
    return bool(_image_files(root))


def read(root: Path, part: Part) -> Labelled | None:
    """The images (H, W, 1) of a part; a name that tells no part is for evaluation.

    Raises:
        DataError: no evaluation part, two sets for one part, images without labels or of unequal number, a file
            that is cut short or no idx file, or an index outside the classes.
    """
    found = [p for p in _image_files(root) if (part_of(p.name) or "evaluation") == part]
    if not found:
        if part == "evaluation":
            raise none_to_judge(root, "t10k-images-idx3-ubyte(.gz) or test-images-idx3-ubyte(.gz)")
        return None
    if len(found) > 1:
        names = ", ".join(p.name for p in found[:8])
        raise DataError(f"data {root}: {len(found)} sets of images for {part} ({names}), expected one; move the others")
    images = _array(found[0], 3)[..., None]
    labels_file = _labels_file(found[0])
    classes = class_names(root)
    labels = checked_labels(_array(labels_file, 1), len(images), classes.titles, labels_file)
    sources = (found[0], labels_file, *classes.files)
    return Labelled(own_name(root), classes.titles, labels, lambda number: images[number], sources)


def _image_files(root: Path) -> list[Path]:
    """The files of images, one a set: unpacked before gzipped."""
    files = [p for p in entries(root) if _IMAGES.fullmatch(p.name) and p.is_file()]
    plain = {p.name for p in files}
    return [p for p in files if p.suffix != ".gz" or p.stem not in plain]


def _labels_file(images: Path) -> Path:
    match = _IMAGES.fullmatch(images.name)
    assert match is not None
    name = f"{match['prefix']}labels{match['joint']}idx1-ubyte"
    for candidate in (name, name + ".gz"):
        if images.with_name(candidate).is_file():
            return images.with_name(candidate)
    raise DataError(f"images {images}: no labels, expected {name} or {name}.gz beside it")


def _array(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """The unsigned bytes of an idx file of so many dimensions."""
    data = _bytes(path)
    header = 4 + 4 * dimensions
    if len(data) < header:
        raise DataError(f"idx {path}: {len(data)} bytes, expected a header of {header}; the file is cut short")
    magic, *shape = struct.unpack_from(f">{1 + dimensions}I", data)
    if magic != (expected := _UNSIGNED_BYTE << 8 | dimensions):
        raise DataError(
            f"idx {path}: magic number 0x{magic:08x}, expected 0x{expected:08x} (unsigned bytes, {dimensions} "
            "dimensions); give the file as it was published"
        )
    if len(data) - header != (size := int(np.prod(shape, dtype=object))):
        raise DataError(
            f"idx {path}: {len(data) - header} bytes after the header, expected {size} "
            f"({' x '.join(map(str, shape))}); the file is damaged, fetch it again"
        )
    if not size:
        raise DataError(f"idx {path}: holds nothing ({' x '.join(map(str, shape))}), expected at least one image")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"idx {path}: cannot be read ({error}); fetch it again") from None
