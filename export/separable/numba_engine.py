"""The engine of one-dimensional tables in numba: where no C compiler is, as fast as Python goes.

Channels lie side by side and are kept as 0..63, so that one value read brings the entries of all outputs at once; a
mean is looked up by its sum.  The four rotations run side by side.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from export.jit import Workers, compiled
from export.separable.network import HIGH, LOW, WINDOW, Layer, Separable

__all__ = ["Engine"]

Plane = NDArray[np.uint8]
Entries = NDArray[np.int8]
Places = NDArray[np.int64]
_MIDDLE = HIGH // 2


class Engine:
    """A network, ready to run."""

    def __init__(self, network: Separable) -> None:
        self._network = network
        self._layers = [_Prepared(layer) for layer in network.layers]
        self._workers = Workers()

    def enlarge(self, image: Plane, threads: int = 1) -> Plane:
        """One channel (H, W) to (scale*H, scale*W)."""
        scale, shares = self._network.scale, [np.empty(0, np.int8)] * 4

        def work(part: int) -> None:
            for quarter in range(part, 4, parts):
                turned = np.ascontiguousarray(np.rot90(image, quarter))
                blocks = self._turned(turned).reshape(*turned.shape, scale, scale).transpose(0, 2, 1, 3)
                whole = blocks.reshape(turned.shape[0] * scale, turned.shape[1] * scale)
                shares[quarter] = np.rot90(whole, -quarter)

        parts = max(1, min(threads, 4))
        self._workers.run(work, parts)
        total = np.full(shares[0].shape, 128, np.int16)
        for share in shares:
            total += share
        return np.clip(total, 0, 255).astype(np.uint8)

    def _turned(self, image: Plane) -> Entries:
        """One rotation's share of the output (H, W, scale*scale)."""
        first, *inner, last = self._layers
        around = np.pad(image, 1, mode="edge")
        x = np.empty((*image.shape, first.outputs), np.uint8)
        _spread(around // LOW, around % LOW, first.entries, first.low, first.means, x)
        for made in inner:
            given, x = _padded(x, made.reach), np.empty_like(x)
            (_depthwise if made.kind == "depthwise" else _pointwise)(given, made.places, made.entries, made.means, x)
        out = np.empty((*image.shape, last.outputs), np.int8)
        _last(_padded(x, last.reach), last.places, last.entries, last.means, self._network.joined, out)
        return out


class _Prepared:
    """A layer as arrays."""

    def __init__(self, layer: Layer) -> None:
        self.kind, self.outputs, self.reach = layer.kind, layer.outputs, layer.reach
        tables = len(layer.entries)
        shifts = WINDOW if layer.kind != "pointwise" else layer.shifts or ((0, 0),) * tables
        self.places = np.array(shifts, np.int64) + layer.reach
        order = (0, 1, 2) if layer.kind == "depthwise" else (0, 2, 1)
        self.entries = np.ascontiguousarray(layer.entries.transpose(order))
        self.low = None if layer.low is None else np.ascontiguousarray(layer.low.transpose(0, 2, 1))
        self.means = np.rint(np.arange(-128 * tables, 127 * tables + 1) / tables).astype(np.int8)


def _padded(x: Plane, reach: int) -> Plane:
    """Channels (H, W, C) with their border repeated."""
    return np.pad(x, [(reach, reach), (reach, reach), (0, 0)], mode="edge") if reach else x


@compiled
def _spread(high: Plane, low: Plane, entries: Entries, lows: Entries, means: Entries, out: Plane) -> None:
    """The first layer, of the image's high and low bits with a border of one pixel."""
    height, width, outputs = out.shape
    of_high, of_low = np.empty(outputs, np.int16), np.empty(outputs, np.int16)
    for y in range(height):
        for x in range(width):
            of_high[:] = 128 * 9
            of_low[:] = 128 * 9
            for tap in range(9):
                row, column = y + tap // 3, x + tap % 3
                upper, lower = entries[tap, high[row, column]], lows[tap, low[row, column]]
                for k in range(outputs):
                    of_high[k] += upper[k]
                    of_low[k] += lower[k]
            for k in range(outputs):
                fine = min(max(means[of_low[k]] + low[y + 1, x + 1], 0), 3)
                out[y, x, k] = min(max(means[of_high[k]] + high[y + 1, x + 1] + fine, 0), 63)


@compiled
def _depthwise(given: Plane, places: Places, entries: Entries, means: Entries, out: Plane) -> None:
    """A layer that reads the window of each channel."""
    height, width, outputs = out.shape
    sums = np.empty(outputs, np.int16)
    for y in range(height):
        for x in range(width):
            sums[:] = 128 * 9
            for tap in range(9):
                values, table = given[y + places[tap, 0], x + places[tap, 1]], entries[tap]
                for k in range(outputs):
                    sums[k] += table[k, values[k]]
            for k in range(outputs):
                out[y, x, k] = min(max(means[sums[k]] + given[y + 1, x + 1, k], 0), 63)


@compiled
def _mixed(given: Plane, y: int, x: int, places: Places, entries: Entries, values: Plane, sums: NDArray[np.int16]) -> None:
    """The channels as they were moved to a pixel, and the sums of their entries plus 128 each."""
    channels, outputs = len(values), len(sums)
    sums[:] = 128 * channels
    for c in range(channels):
        values[c] = given[y + places[c, 0], x + places[c, 1], c]
        table = entries[c, values[c]]
        for k in range(outputs):
            sums[k] += table[k]


@compiled
def _pointwise(given: Plane, places: Places, entries: Entries, means: Entries, out: Plane) -> None:
    """A layer that mixes the channels."""
    height, width, outputs = out.shape
    sums, values = np.empty(outputs, np.int16), np.empty(given.shape[2], np.uint8)
    for y in range(height):
        for x in range(width):
            _mixed(given, y, x, places, entries, values, sums)
            for k in range(outputs):
                out[y, x, k] = min(max(means[sums[k]] + values[k], 0), 63)


@compiled
def _last(given: Plane, places: Places, entries: Entries, means: Entries, joined: bool, out: Entries) -> None:
    """The layer whose outputs are pixels, less 128."""
    height, width, outputs = out.shape
    sums, values = np.empty(outputs, np.int16), np.empty(given.shape[2], np.uint8)
    for y in range(height):
        for x in range(width):
            _mixed(given, y, x, places, entries, values, sums)
            for k in range(outputs):
                more = values[k] - 32 if joined else 0
                out[y, x, k] = min(max(means[sums[k]] + more, -128), 127)
