"""The super-resolution protocol of the literature: PSNR and SSIM on Y, one implementation.

Output clamped to [0, 255] and rounded to uint8, HR cropped to a multiple of the scale, ``scale`` pixels cut
from every side, luma of ITU-R BT.601 (studio swing, not rounded), peak 255.  Two PSNR values are comparable
only when their protocol names are equal, so the name travels with every score.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Score", "luma", "modcrop", "protocol", "psnr", "score", "ssim", "to_uint8"]

Image = NDArray[np.uint8]

_PEAK = 255.0
_LUMA = np.array([65.481, 128.553, 24.966]) / 255.0  # ITU-R BT.601, 8-bit RGB in, 16..235 out


@dataclass(frozen=True)
class Score:
    """How close one image comes to its reference."""

    psnr: float
    """dB on luma; infinite where the images are equal."""
    ssim: float
    """0 to 1 (1 = equal); NaN where the image is smaller than the 11 x 11 window."""


def protocol(scale: int) -> str:
    """The protocol's name, e.g. ``sr-x4-y601-crop4-uint8-matlab-bicubic``."""
    return f"sr-x{scale}-y601-crop{scale}-uint8-matlab-bicubic"


def modcrop(image: Image, scale: int) -> Image:
    """The image without the last rows and columns that do not fill a multiple of ``scale``.

    Raises:
        ValueError: the image is smaller than ``scale``.
    """
    height, width = (side - side % scale for side in image.shape[:2])
    if height == 0 or width == 0:
        raise ValueError(f"a {image.shape[0]}x{image.shape[1]} image is smaller than scale {scale}")
    return image[:height, :width]


def to_uint8(image: NDArray[np.floating]) -> Image:
    """A float image in [0, 1] as uint8: clamped, then rounded half up; NaN becomes 0."""
    scaled = np.nan_to_num(np.clip(image, 0.0, 1.0), nan=0.0) * 255.0
    rounded: Image = np.floor(scaled + 0.5).astype(np.uint8)
    return rounded


def luma(image: Image) -> NDArray[np.float64]:
    """Y of BT.601 in [16, 235], (H, W), of an RGB image (H, W, 3) of uint8; not rounded."""
    return image.astype(np.float64) @ _LUMA + 16.0


def psnr(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Peak signal-to-noise ratio in dB, peak 255; ``inf`` for equal arrays."""
    error = float(np.mean((a - b) ** 2))
    return float("inf") if error == 0.0 else 10.0 * float(np.log10(_PEAK**2 / error))


def _gaussian() -> NDArray[np.float64]:
    """The 11 taps, sigma 1.5, of Wang et al. 2004, normalised to sum 1."""
    taps = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    return np.asarray(taps / taps.sum())


def _blur(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Separable 11 x 11 Gaussian, valid region only: (H, W) to (H-10, W-10)."""
    taps = _gaussian()
    height, width = x.shape
    rows = sum(taps[k] * x[k : height - 10 + k] for k in range(11))
    return np.asarray(sum(taps[k] * rows[:, k : width - 10 + k] for k in range(11)))


def ssim(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Structural similarity (Wang, Bovik, Sheikh, Simoncelli 2004, eq. 13), mean over the valid region.

    11 x 11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03, peak 255.

    Args:
        a: (H, W) luma.
        b: (H, W) luma.

    Returns:
        At most 1; NaN when a side is shorter than the window.
    """
    if min(a.shape) < 11:
        return float("nan")
    c1, c2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2
    mean_a, mean_b = _blur(a), _blur(b)
    var_a = _blur(a * a) - mean_a**2
    var_b = _blur(b * b) - mean_b**2
    cov = _blur(a * b) - mean_a * mean_b
    top = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    bottom = (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    return float(np.mean(top / bottom))


def score(output: Image, reference: Image, scale: int) -> Score:
    """PSNR and SSIM of an enlarged image against its HR reference, by :func:`protocol`.

    Args:
        output: (H, W, 3) uint8.
        reference: (H, W, 3) uint8, already mod-cropped.
        scale: pixels cut from every side; at least one pixel must remain.

    Raises:
        ValueError: the shapes differ, or nothing is left after the crop.
    """
    if output.shape != reference.shape:
        raise ValueError(f"output is {output.shape}, reference {reference.shape}")
    if min(output.shape[:2]) <= 2 * scale:
        height, width = output.shape[:2]
        raise ValueError(f"nothing of {height}x{width} is left after a border crop of {scale}")
    inner = (slice(scale, -scale), slice(scale, -scale))
    a, b = luma(output[inner]), luma(reference[inner])
    return Score(psnr(a, b), ssim(a, b))
