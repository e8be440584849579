"""One-dimensional tables one pixel at a time: the image is turned, read value by value, and turned back.

Li et al., NeurIPS 2024 (TinyLUT); Zeng et al., arXiv:2603.00906 (ShiftLUT).
"""

from fractions import Fraction

import numpy as np


def enlarge(network, image):
    """One channel (H, W) of uint8 to (scale*H, scale*W)."""
    total = sum(np.rot90(one_rotation(network, np.rot90(image, q)), -q) for q in range(4))
    return np.clip(total + 128, 0, 255).astype(np.uint8)


def one_rotation(network, image):
    height, width = image.shape
    first, *inner, last = network.layers
    x = [[[0] * width for _ in range(height)] for _ in range(first.outputs)]
    for c, y, column in np.ndindex(first.outputs, height, width):
        pixels = [int(image[at(y + r, height), at(column + s, width)]) for r in (-1, 0, 1) for s in (-1, 0, 1)]
        own = int(image[y, column])
        low = clipped(mean(int(first.low[t, c, v % 4]) for t, v in enumerate(pixels)) + own % 4, 0, 3)
        high = mean(int(first.entries[t, c, v // 4]) for t, v in enumerate(pixels))
        x[c][y][column] = clipped(high + own // 4 - 32 + low, -32, 31)
    for layer in inner:
        x = [
            [[clipped(sum(one(layer, x, c, y, k)), -32, 31) for k in range(width)] for y in range(height)]
            for c in range(layer.outputs)
        ]
    out = np.zeros((height * network.scale, width * network.scale), int)
    for o, y, column in np.ndindex(last.outputs, height, width):
        given, found = one(last, x, o, y, column)
        row, place = divmod(o, network.scale)
        joined = given if last.outputs == len(x) else 0
        out[y * network.scale + row, column * network.scale + place] = clipped(found + joined, -128, 127)
    return out


def one(layer, x, o, y, column):
    """What channel o was given at a pixel, moved as the layer says, and the mean over the tables."""
    height, width = len(x[0]), len(x[0][0])
    if layer.kind == "depthwise":
        around = [x[o][at(y + r, height)][at(column + s, width)] for r in (-1, 0, 1) for s in (-1, 0, 1)]
        return around[4], mean(int(layer.entries[t, o, v + 32]) for t, v in enumerate(around))
    moves = layer.shifts or [(0, 0)] * len(x)
    moved = [x[c][at(y + row, height)][at(column + s, width)] for c, (row, s) in enumerate(moves)]
    given = moved[o] if o < len(moved) else None
    return given, mean(int(layer.entries[c, o, v + 32]) for c, v in enumerate(moved))


def mean(values):
    """Ties to even, as Python rounds fractions."""
    values = list(values)
    return round(Fraction(sum(values), len(values)))


def at(place, side):
    """The border repeats."""
    return min(max(place, 0), side - 1)


def clipped(value, low, high):
    return min(max(value, low), high)
