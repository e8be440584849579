"""The engine of one-dimensional tables in numba: where no C compiler is, as fast as Python goes.

Channels lie side by side and are kept as 0..63, so that one value read brings the entries of all outputs at once; a
mean is looked up by its sum.  The four rotations run side by side.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from export.jit import compiled
from export.separable.network import LOW, Layer, Separable
from export.workers import Workers

__all__ = ["Engine"]

Plane = NDArray[np.uint8]
Entries = NDArray[np.int8]
Sums = NDArray[np.int16]
Places = NDArray[np.int64]


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
        assert first.low is not None
        around = np.pad(image, 1, mode="edge")
        x = np.empty((*image.shape, first.outputs), np.uint8)
        _spread(around // LOW, around % LOW, first.entries, first.low, first.means, x)
        for made in inner:
            given, x = _padded(x, made.reach), np.empty_like(x)
            if made.kind == "depthwise":
                _depthwise(given, made.entries, made.means, x)
            else:
                _pointwise(given, made.places, made.entries, made.means, x)
        out = np.empty((*image.shape, last.outputs), np.int8)
        _last(_padded(x, last.reach), last.places, last.entries, last.means, self._network.joined, out)
        return out


class _Prepared:
    """A layer as arrays."""

    def __init__(self, layer: Layer) -> None:
        self.kind, self.outputs, self.reach = layer.kind, layer.outputs, layer.reach
        tables = len(layer.entries)
        self.places = np.array(layer.shifts or ((0, 0),) * tables, np.int64) + layer.reach
        order = (0, 1, 2) if layer.kind == "depthwise" else (0, 2, 1)
        self.entries = np.ascontiguousarray(layer.entries.transpose(order))
        self.low = None if layer.low is None else np.ascontiguousarray(layer.low.transpose(0, 2, 1))
        self.means = np.rint(np.arange(-128 * tables, 127 * tables + 1) / tables).astype(np.int8)


def _padded(x: Plane, reach: int) -> Plane:
    """Channels (H, W, C) with their border repeated."""
    return np.pad(x, [(reach, reach), (reach, reach), (0, 0)], mode="edge") if reach else x


@compiled
def _around(plane: Plane, y: int, x: int, entries: Entries, sums: Sums) -> None:
    """The sums of the entries of a pixel's window, plus 128 each."""
    sums[:] = 128 * 9
    for row in range(3):  # three pixels at a time: sums are in memory
        a, b, c = plane[y + row, x], plane[y + row, x + 1], plane[y + row, x + 2]
        left, here, right = entries[3 * row, a], entries[3 * row + 1, b], entries[3 * row + 2, c]
        for k in range(len(sums)):
            sums[k] += np.int16(left[k]) + np.int16(here[k]) + np.int16(right[k])


@compiled
def _spread(high: Plane, low: Plane, entries: Entries, lows: Entries, means: Entries, out: Plane) -> None:
    """The first layer, of the image's high and low bits with a border of one pixel."""
    height, width, outputs = out.shape
    of_high, of_low = np.empty(outputs, np.int16), np.empty(outputs, np.int16)
    for y in range(height):
        for x in range(width):
            _around(high, y, x, entries, of_high)
            _around(low, y, x, lows, of_low)
            for k in range(outputs):
                fine = min(max(means[of_low[k]] + low[y + 1, x + 1], 0), 3)
                out[y, x, k] = min(max(means[of_high[k]] + high[y + 1, x + 1] + fine, 0), 63)


@compiled
def _depthwise(given: Plane, entries: Entries, means: Entries, out: Plane) -> None:
    """A layer that reads the window of each channel."""
    height, width, outputs = out.shape
    for y in range(height):
        for x in range(width):
            for k in range(outputs):
                total = 128 * 9
                for tap in range(9):
                    total += entries[tap, k, given[y + tap // 3, x + tap % 3, k]]
                out[y, x, k] = min(max(means[total] + given[y + 1, x + 1, k], 0), 63)


@compiled
def _mixed(given: Plane, y: int, x: int, places: Places, entries: Entries, values: Plane, sums: Sums) -> None:
    """The channels as they were moved to a pixel, and the sums of their entries plus 128 each."""
    channels, outputs = len(values), len(sums)
    for c in range(channels):
        values[c] = given[y + places[c, 0], x + places[c, 1], c]
    sums[:] = 128 * channels
    for c in range(0, channels, 4):  # four at a time: sums are in memory
        a, b = entries[c, values[c]], entries[c + 1, values[c + 1]]
        d, e = entries[c + 2, values[c + 2]], entries[c + 3, values[c + 3]]
        for k in range(outputs):
            sums[k] += np.int16(a[k]) + np.int16(b[k]) + np.int16(d[k]) + np.int16(e[k])


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
