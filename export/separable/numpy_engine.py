"""A network of one-dimensional tables in numpy: the plain statement of what the fast engines compute."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from export.separable.network import HIGH, LOW, WINDOW, Layer, Separable

__all__ = ["enlarge"]

Plane = NDArray[np.uint8]
Ints = NDArray[np.int32]


def enlarge(network: Separable, image: Plane) -> Plane:
    """One channel (H, W) to (scale*H, scale*W)."""
    total = np.zeros([side * network.scale for side in image.shape], np.int32)
    for quarter in range(4):
        total += np.rot90(_turned(network, np.rot90(image, quarter)), -quarter)
    return np.clip(total + 128, 0, 255).astype(np.uint8)


def _turned(network: Separable, image: Plane) -> Ints:
    """One rotation's share of the output, -128..127."""
    pixels = image.astype(np.int32)
    high, low = pixels // LOW - HIGH // 2, pixels % LOW
    x = _first(network.layers[0], high, low)
    for layer in network.layers[1:-1]:
        given = _moved(x, layer)
        x = _settled(_sums(layer, given), layer) + given
        x = np.clip(x, -HIGH // 2, HIGH // 2 - 1)
    last, scale = network.layers[-1], network.scale
    given = _moved(x, last)
    out = np.clip(_settled(_sums(last, given), last) + (given if network.joined else 0), -128, 127)
    blocks = out.reshape(scale, scale, *image.shape)
    found: Ints = blocks.transpose(2, 0, 3, 1).reshape(image.shape[0] * scale, image.shape[1] * scale)
    return found


def _first(layer: Layer, high: Ints, low: Ints) -> Ints:
    """The channels (C, H, W) of an image's high and low bits."""
    assert layer.low is not None
    of_high, of_low = np.zeros((2, layer.outputs, *high.shape), np.int32)
    for tap in range(len(WINDOW)):
        of_high += layer.entries[tap][:, _tap(high, tap) + HIGH // 2]
        of_low += layer.low[tap][:, _tap(low, tap)]
    lows = np.clip(_settled(of_low, layer) + low, 0, LOW - 1)
    found: Ints = np.clip(_settled(of_high, layer) + high + lows, -HIGH // 2, HIGH // 2 - 1)
    return found


def _sums(layer: Layer, x: Ints) -> Ints:
    """The tables' values of the channels (C, H, W), added up."""
    total = np.zeros((layer.outputs, *x.shape[1:]), np.int32)
    if layer.kind == "depthwise":
        for tap in range(len(WINDOW)):
            for channel, plane in enumerate(x):
                total[channel] += layer.entries[tap, channel][_tap(plane, tap) + HIGH // 2]
        return total
    for channel, plane in enumerate(x):
        total += layer.entries[channel][:, plane + HIGH // 2]
    return total


def _settled(sums: Ints, layer: Layer) -> Ints:
    """The mean of as many values as there are tables, ties to even."""
    return np.rint(sums / len(layer.entries)).astype(np.int32)


def _tap(plane: Ints, tap: int) -> Ints:
    return _away(plane, *WINDOW[tap])


def _moved(x: Ints, layer: Layer) -> Ints:
    """Every channel as its shift says."""
    if not layer.shifts:
        return x
    return np.stack([_away(plane, row, column) for plane, (row, column) in zip(x, layer.shifts, strict=True)])


def _away(plane: Ints, row: int, column: int) -> Ints:
    """What lies so far from each pixel; outside, the border is repeated."""
    reach = max(abs(row), abs(column))
    height, width = plane.shape
    return np.pad(plane, reach, mode="edge")[reach + row :, reach + column :][:height, :width]
