"""MATLAB's bicubic imresize, one pixel and one tap at a time, in exact fractions (Keys 1981, a = -0.5)."""

import math
from fractions import Fraction

import numpy as np


def cubic(x: Fraction) -> Fraction:
    """Keys' kernel in its textbook form."""
    x = abs(x)
    if x <= 1:
        return Fraction(3, 2) * x**3 - Fraction(5, 2) * x**2 + 1
    if x <= 2:
        return -Fraction(1, 2) * x**3 + Fraction(5, 2) * x**2 - 4 * x + 2
    return Fraction(0)


def mirror(index: int, length: int) -> int:
    """Step back from the border, the border pixel itself counted twice."""
    while not 0 <= index < length:
        index = -index - 1 if index < 0 else 2 * length - 1 - index
    return index


def resize_line(line: list[int], out_length: int) -> list[Fraction]:
    """One line of pixels, clamped to [0, 255] but not rounded."""
    scale = Fraction(out_length, len(line))
    stretch = max(Fraction(1), 1 / scale)
    result = []
    for k in range(out_length):
        centre = (k + Fraction(1, 2)) / scale - Fraction(1, 2)
        taps = range(math.floor(centre - 2 * stretch), math.ceil(centre + 2 * stretch) + 1)
        weights = [cubic((centre - tap) / stretch) for tap in taps]
        value = sum(w * line[mirror(tap, len(line))] for w, tap in zip(weights, taps, strict=True)) / sum(weights)
        result.append(min(Fraction(255), max(Fraction(0), value)))
    return result


def resize_rows(image: np.ndarray, height: int) -> list[list[Fraction]]:
    """The first pass, (H, W) to (height, W), not rounded."""
    columns = [resize_line([int(v) for v in image[:, x]], height) for x in range(image.shape[1])]
    return [[column[y] for column in columns] for y in range(height)]


def to_uint8(rows: list[list[Fraction]]) -> np.ndarray:
    """Rounded half up."""
    return np.array([[math.floor(v + Fraction(1, 2)) for v in row] for row in rows], np.uint8)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W) uint8 to (height, width): first down the columns, then along the rows, uint8 after each pass."""
    tall = to_uint8(resize_rows(image, height))
    return to_uint8(resize_rows(tall.T, width)).T
