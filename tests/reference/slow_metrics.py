"""PSNR and SSIM on luma, one pixel and one window at a time."""

import math

import numpy as np


def luma(rgb: np.ndarray) -> list[list[float]]:
    """Y of ITU-R BT.601 from 8-bit RGB, 16 to 235."""
    return [[16 + (65.481 * int(r) + 128.553 * int(g) + 24.966 * int(b)) / 255 for r, g, b in row] for row in rgb]


def crop(plane: list[list[float]], border: int) -> list[list[float]]:
    """Without ``border`` pixels on every side."""
    return [row[border : len(row) - border] for row in plane[border : len(plane) - border]]


def psnr(a: list[list[float]], b: list[list[float]]) -> float:
    """20 log10(255 / RMSE)."""
    errors = [(p - q) ** 2 for row_a, row_b in zip(a, b, strict=True) for p, q in zip(row_a, row_b, strict=True)]
    mean = math.fsum(errors) / len(errors)
    return math.inf if mean == 0 else 20 * math.log10(255 / math.sqrt(mean))


def window() -> list[list[float]]:
    """The 11 x 11 Gaussian of sigma 1.5, sum 1 (``fspecial('gaussian', 11, 1.5)``)."""
    raw = [[math.exp(-((i - 5) ** 2 + (j - 5) ** 2) / (2 * 1.5**2)) for j in range(11)] for i in range(11)]
    total = math.fsum(v for row in raw for v in row)
    return [[v / total for v in row] for row in raw]


def ssim(a: list[list[float]], b: list[list[float]]) -> float:
    """Wang et al. 2004, eq. 13, over every window that fits."""
    w, c1, c2 = window(), (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for top in range(len(a) - 10):
        for left in range(len(a[0]) - 10):
            cells = [(w[i][j], a[top + i][left + j], b[top + i][left + j]) for i in range(11) for j in range(11)]
            mean_a = math.fsum(k * p for k, p, _ in cells)
            mean_b = math.fsum(k * q for k, _, q in cells)
            var_a = math.fsum(k * (p - mean_a) ** 2 for k, p, _ in cells)
            var_b = math.fsum(k * (q - mean_b) ** 2 for k, _, q in cells)
            cov = math.fsum(k * (p - mean_a) * (q - mean_b) for k, p, q in cells)
            top_part = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
            values.append(top_part / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)))
    return math.fsum(values) / len(values)
