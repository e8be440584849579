"""Image files to uint8 RGB arrays, with errors that say which file and what to do."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.errors import DataError

__all__ = ["SUFFIXES", "list_images", "read_rgb"]

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
            if image.mode not in _EIGHT_BIT:
                raise DataError(
                    f"image {path}: mode {image.mode}, expected 8 bits a channel; convert it to an 8-bit PNG first"
                )
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"image {path}: cannot be read ({error}); replace or remove the file") from None


def list_images(folder: Path) -> list[Path]:
    """The image files directly inside a folder, by name; hidden files are left out."""
    return sorted(
        p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file() and not p.name.startswith(".")
    )
