"""Image files to uint8 RGB arrays, with errors that say which file and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compress.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["SUFFIXES", "list_images", "read_rgb", "to_channels"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
_EIGHT_BIT = ("L", "RGB", "RGBA", "P", "LA", "1", "CMYK", "YCbCr")


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """An image file as (H, W, 3) uint8; grey is repeated, alpha is dropped.

    Raises:
        DataError: missing, truncated, not an image, or more than 8 bits a channel.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            deep = " of 16 bits" if _sixteen_bit(image) else ""
            if deep or image.mode not in _EIGHT_BIT:
                raise DataError(
                    f"image {path}: mode {image.mode}{deep}, expected 8 bits a channel; "
                    "convert it to an 8-bit PNG first"
                )
            plain = image.convert("RGBA") if image.mode == "P" else image  # Pillow warns of a palette's alpha
            return np.asarray(plain.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"image {path}: cannot be read ({error}); replace or remove the file") from None


def _sixteen_bit(image: Image.Image) -> bool:
    """Whether Pillow is about to cut 16-bit RGB to 8 without a word; its decoder's raw mode tells."""
    return any(";16" in str(argument) for tile in getattr(image, "tile", []) for argument in tile[3:])


def to_channels(image: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """An image (H, W, C) with 1 or 3 channels: grey by ITU-R BT.601 (full range, rounded), colour by repetition.

    Raises:
        DataError: another number of channels.
    """
    if channels not in (1, 3):
        raise DataError(f"networks of {channels} input channels are not known, expected 1 (grey) or 3 (RGB)")
    if image.shape[2] == channels:
        return image
    if channels == 3:
        return np.repeat(image[..., :1], 3, axis=2)
    grey = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.asarray(np.floor(grey + 0.5), np.uint8)[..., None]


def list_images(folder: Path) -> list[Path]:
    """The image files directly inside a folder, by name; hidden files are left out."""
    return sorted(
        p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file() and not p.name.startswith(".")
    )
