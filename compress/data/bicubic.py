"""MATLAB's ``imresize(..., 'bicubic')``, the resampler that super-resolution benchmarks are defined with.

Keys' cubic kernel with a = -0.5, stretched by 1/scale when shrinking (antialiasing), symmetric padding,
weights normalised to sum 1, double precision, rows first, and **rounding to uint8 after each pass**.
The last point is what makes the published LR files come out identical (see tests).
"""

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["downscale", "resize", "upscale"]

Image = NDArray[np.uint8]


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' kernel, a = -0.5 (R. Keys 1981, IEEE TASSP 29(6), eq. 15); support [-2, 2]."""
    a = np.abs(x)
    near = 1.5 * a**3 - 2.5 * a**2 + 1.0
    far = -0.5 * a**3 + 2.5 * a**2 - 4.0 * a + 2.0
    return np.where(a <= 1.0, near, np.where(a <= 2.0, far, 0.0))


def _taps(length: int, out_length: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Source indices and weights, each (out_length, taps), of one axis."""
    scale = out_length / length
    shrink = min(scale, 1.0)
    width = 4.0 / shrink
    centre = (np.arange(out_length) + 0.5) / scale - 0.5
    first = np.floor(centre - width / 2).astype(np.intp)
    indices = first[:, None] + np.arange(math.ceil(width) + 2)
    weights = _cubic((centre[:, None] - indices) * shrink)
    weights /= weights.sum(axis=1, keepdims=True)
    mirrored = np.mod(indices, 2 * length)  # symmetric padding: ... 1 0 | 0 1 2 ... n-1 | n-1 n-2 ...
    mirrored = np.where(mirrored < length, mirrored, 2 * length - 1 - mirrored)
    used = np.any(weights != 0.0, axis=0)
    return mirrored[:, used], weights[:, used]


def _resize_rows(image: Image, out_length: int) -> Image:
    """One pass along axis 0, (H, ...) to (out_length, ...), rounded to uint8."""
    indices, weights = _taps(image.shape[0], out_length)
    tail = (1,) * (image.ndim - 1)
    out = np.zeros((out_length, *image.shape[1:]), np.float64)
    for tap in range(indices.shape[1]):
        out += weights[:, tap].reshape(-1, *tail) * image[indices[:, tap]]
    return np.floor(np.clip(out, 0.0, 255.0) + 0.5).astype(np.uint8)


def resize(image: Image, height: int, width: int) -> Image:
    """The image at another size, by MATLAB's bicubic.

    Args:
        image: (H, W) or (H, W, C), uint8.
        height: rows of the result, at least 1.
        width: columns of the result, at least 1.

    Returns:
        (height, width[, C]), uint8.

    Raises:
        ValueError: a size below 1, or an image that is not uint8.
    """
    if image.dtype != np.uint8:
        raise ValueError(f"resize takes uint8 images, got {image.dtype}")
    if height < 1 or width < 1:
        raise ValueError(f"cannot resize to {height}x{width}: both sides must be at least 1")
    rows = _resize_rows(image, height)
    return np.ascontiguousarray(_resize_rows(rows.swapaxes(0, 1), width).swapaxes(0, 1))


def downscale(image: Image, scale: int) -> Image:
    """The LR image of an HR image whose sides are multiples of ``scale``: (H/scale, W/scale[, C]).

    Raises:
        ValueError: a side that is not a multiple of ``scale`` (crop first: ``evaluate.modcrop``).
    """
    height, width = image.shape[:2]
    if height % scale or width % scale:
        raise ValueError(f"{height}x{width} is not a multiple of {scale}; modcrop the image first")
    return resize(image, height // scale, width // scale)


def upscale(image: Image, scale: int) -> Image:
    """Bicubic enlargement by an integer factor, the baseline of every super-resolution table."""
    return resize(image, image.shape[0] * scale, image.shape[1] * scale)
