"""Look-up tables one pixel at a time: the image is turned, padded, read corner by corner, and turned back.

Jo and Kim, CVPR 2021 (simplex interpolation); Li et al., ECCV 2022 (stages); Li et al., CVPR 2024 (diagonal band).
"""

from fractions import Fraction
from itertools import product
from math import floor

import numpy as np

_WHOLE = 256


def enlarge(network, image):
    """One channel (H, W) of uint8 to (scale*H, scale*W)."""
    planes = [image]
    for number, stage in enumerate(network.stages):
        last = number == len(network.stages) - 1
        totals = None
        for table, quarter in product(stage.tables, range(stage.rotations)):
            turned = [np.rot90(plane, quarter) for plane in planes]
            found = looked_up(table, turned, network.padding, stage.reach, stage.scale)
            found = np.rot90(found, -quarter)
            totals = found if totals is None else totals + found
        pixels = np.vectorize(lambda t, stage=stage: settled(t, stage), otypes=[np.uint8])(totals)
        if last:
            return pixels if stage.scale > 1 else pixels[..., 0]
        planes += [pixels[..., k] for k in range(stage.outputs)]
    raise AssertionError("no stages")


def settled(total, stage):
    """Half up, clipped."""
    value = floor(total / stage.divisor + Fraction(1, 2)) + stage.bias
    return min(max(value, 0), 255)


def looked_up(table, planes, padding, reach, scale):
    """(H, W, outputs), or (scale*H, scale*W) in the last stage, of exact fractions."""
    height, width = planes[0].shape
    shape = (height * scale, width * scale) if scale > 1 else (height, width, table.outputs)
    out = np.empty(shape, object)
    mirrored = padding == "reflect" and min(height, width) > reach
    for y, x in product(range(height), range(width)):
        values = []
        for tap in table.taps:
            total = 0
            for source in tap:
                row, column = (
                    outside(k, n, mirrored) for k, n in ((y + source.row, height), (x + source.column, width))
                )
                total += source.weight * int(planes[source.plane][row, column])
            values.append(Fraction(total, _WHOLE))
        row = interpolated(table, values)
        if scale > 1:
            for k, value in enumerate(row):
                out[y * scale + k // scale, x * scale + k % scale] = value
        else:
            for k, value in enumerate(row):
                out[y, x, k] = value
    return out


def outside(k, n, mirrored):
    """A coordinate brought into 0..n-1."""
    if mirrored:
        return -k if k < 0 else 2 * (n - 1) - k if k >= n else k
    return min(max(k, 0), n - 1)


def interpolated(table, values):
    """The exact value between the corners of the simplex that holds the point."""
    bits, first, band = table.interval_bits, 0, None
    if table.band is not None:
        near = all(abs(v - values[0]) <= table.band.width << bits for v in values[1:])
        nodes = (256 >> bits) + 1
        band = [
            corner
            for corner in product(range(nodes), repeat=4)
            if all(abs(c - corner[0]) <= table.band.width for c in corner)
        ]
        if not near:
            bits, first, band = table.band.interval_bits, len(band), None
    step = 1 << bits
    corner = [int(v // step) for v in values]
    fractions = [Fraction(v % step) / step for v in values]
    order = sorted(range(len(values)), key=lambda k: -fractions[k])
    steps = [Fraction(1), *[fractions[k] for k in order], Fraction(0)]
    total = [Fraction(0)] * table.outputs
    for place in range(len(values) + 1):
        weight = steps[place] - steps[place + 1]
        if weight:
            row = band.index(tuple(corner)) if band is not None else first + number(corner, (256 >> bits) + 1)
            total = [t + weight * int(e) for t, e in zip(total, table.entries[row], strict=True)]
        if place < len(values):
            corner[order[place]] += 1
    return total


def number(corner, nodes):
    """The row of a corner, the first tap the most significant."""
    row = 0
    for node in corner:
        row = row * nodes + node
    return row
