"""Images with labels, for classification: found on disk whatever their layout, and fitted to a network's input."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compress.data.folder import listing
from compress.data.images import list_images
from compress.data.layouts import Image, Labelled, Layout, Part, archive, cifar_binary, class_folders, idx, rows, table
from compress.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

__all__ = ["Labelled", "Part", "find", "fit", "is_labelled", "subset"]

# Class folders come last: a table may name files in folders, and any folder of images looks like a class.
_LAYOUTS: tuple[Layout, ...] = (table, rows, idx, cifar_binary, archive, class_folders)


def is_labelled(root: Path) -> bool:
    """Whether a folder or file has one of the known layouts; pictures that lie in a folder directly have no labels."""
    layout = next((layout for layout in _LAYOUTS if root.exists() and layout.lies_in(root)), None)
    return layout is not None and not (layout is class_folders and list_images(root))


def find(root: Path, part: Part) -> Labelled | None:
    """The labelled images of a folder or file, its layout told by what lies there.

    Layouts: a folder a class; ``labels.tsv``; rows of a PNG; idx; CIFAR-10's binary version; ``.npz``. Each is
    described where it is read, in ``compress/data/layouts``.

    Args:
        root: a folder, or a ``.npz`` file.
        part: ``evaluation`` (val, test, or all there is) or ``calibration`` (train).

    Returns:
        At least one image; None: the layout has no images to calibrate on.

    Raises:
        DataError: no such folder, no known layout, or one that is damaged or does not fit together.
    """
    expected = "; ".join(f"({number}) {layout.EXPECTED}" for number, layout in enumerate(_LAYOUTS, start=1))
    if not root.exists():
        raise DataError(f"data {root}: does not exist; give one of {expected}")
    layout = next((layout for layout in _LAYOUTS if layout.lies_in(root)), None)
    if layout is None:
        found = f"found {listing(root)}" if root.is_dir() else "found a file of another kind"
        raise DataError(f"data {root}: no labelled images, {found}; expected one of {expected}")
    return layout.read(root, part)


def subset(data: Labelled, indices: NDArray[np.intp]) -> Labelled:
    """Some of the images, in the order of the indices."""
    return replace(data, labels=data.labels[indices], reader=lambda k: data.reader(int(indices[k])))


def fit(image: Image, channels: int, size: tuple[int, int], crop_share: float) -> NDArray[np.float32]:
    """An image as a network takes it: its channels, its size, values in [0, 1].

    An image that has the size already is not resampled, whatever ``crop_share``. Any other goes the way of timm's
    evaluation transform (``timm.data.transforms_factory.transforms_imagenet_eval``, crop mode ``center``): colours
    first, then the resize that makes it just cover ``size / crop_share``, by Pillow's antialiased bicubic and
    rounded to uint8, then the centre crop.

    Args:
        image: (H, W, C), uint8, C = 1 or 3.
        channels: 1 (luma of BT.601, full swing) or 3 (grey is repeated).
        size: (height, width) of the result.
        crop_share: the part of the resized shorter side that the crop keeps, above 0, at most 1; timm's ``crop_pct``.

    Returns:
        (height, width, channels), float32.

    Raises:
        ValueError: an image, a number of channels, a size or a share that is none of these.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or 0 in image.shape:
        raise ValueError(f"fit takes uint8 (H, W, 1) or (H, W, 3), got {image.dtype} {image.shape}")
    if channels not in (1, 3) or min(size) < 1 or not 0 < crop_share <= 1:
        raise ValueError(f"cannot fit to {channels} channels, size {size}, crop share {crop_share}")
    pillow = _pillow(image, channels)
    if image.shape[:2] != tuple(size):
        pillow = _covered(pillow, size, crop_share)
    return np.asarray(pillow).reshape(*size, channels).astype(np.float32) / np.float32(255)


def _pillow(image: Image, channels: int) -> PillowImage:
    from PIL import Image as Pillow

    pillow = Pillow.fromarray(np.ascontiguousarray(image[..., 0] if image.shape[2] == 1 else image))
    return pillow.convert("L" if channels == 1 else "RGB")


def _covered(image: PillowImage, size: tuple[int, int], crop_share: float) -> PillowImage:
    """The image resized so that it covers size / crop_share, then cut to the size about its centre."""
    from PIL.Image import Resampling

    height, width = _covering((image.height, image.width), size, crop_share)
    if (height, width) != (image.height, image.width):
        image = image.resize((width, height), Resampling.BICUBIC)
    top, left = round((height - size[0]) / 2.0), round((width - size[1]) / 2.0)  # as torchvision: halves to even
    return image.crop((left, top, left + size[1], top + size[0]))


def _covering(have: tuple[int, int], size: tuple[int, int], crop_share: float) -> tuple[int, int]:
    """(height, width) to resize to, with the roundings of torchvision's Resize (square) and timm's ResizeKeepRatio."""
    least = [math.floor(side / crop_share) for side in size]
    if size[0] == size[1]:
        short, long = min(have), max(have)
        longer = int(least[0] * long / short)
        return (longer, least[0]) if have[1] <= have[0] else (least[0], longer)
    ratio = min(side / wanted for side, wanted in zip(have, least, strict=True))
    height, width = (round(side / ratio) for side in have)
    return height, width
