"""The engine in numba: where no C compiler is, as fast as Python goes.

A stage is computed row by row, as the C engine does (csource.py): values of the taps, rows and weights of the corners
around them, their weighted sums for each rotation, pixels.  Every table is read at four taps and five corners; a tap
that it has not is 0 everywhere and moves no row.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from export.jit import compiled
from export.lut.cstage import too_large
from export.lut.layout import grids, stored
from export.lut.network import WHOLE, Network, Stage, Table, rotated
from export.lut.numpy_engine import denominator
from export.workers import Workers

__all__ = ["Engine"]

Plane = NDArray[np.uint8]
Ints = NDArray[np.int32]
Numbers = NDArray[np.int64]
Arrays = tuple[Numbers, Numbers, Numbers, NDArray[np.int8]]
Settled = tuple[Numbers, int, int]
_TAPS = 4
_LEAST_ROWS = 16  # that are worth a thread


class Engine:
    """A network, ready to run."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._stages = [_Prepared(stage) for stage in network.stages]
        self._workers = Workers()

    def enlarge(self, image: Plane, threads: int = 1) -> Plane:
        """One channel (H, W) to (scale*H, scale*W), in bands of rows side by side."""
        height, width = image.shape
        planes = image[None]
        for made in self._stages[:-1]:
            more = np.empty((made.outputs, height, width), np.uint8)
            self._run(made, planes, more.transpose(1, 2, 0)[..., None], threads)
            planes = np.concatenate([planes, more])
        last, scale = self._stages[-1], self._network.scale
        out = np.empty((height * scale, width * scale), np.uint8)
        self._run(last, planes, out.reshape(height, scale, width, scale).transpose(0, 2, 1, 3), threads)
        return out

    def _run(self, made: _Prepared, planes: Plane, out: Plane, threads: int) -> None:
        """Compute a stage into a view (H, W, rows, columns of a pixel's block)."""
        reach, (height, width) = made.reach, planes.shape[1:]
        reflect = self._network.padding == "reflect" and min(height, width) > reach
        mode: Literal["edge", "reflect"] = "reflect" if reflect else "edge"
        padded = np.pad(planes, [(0, 0), (reach, reach), (reach, reach)], mode=mode)
        bands = max(1, min(threads, height // _LEAST_ROWS))

        def work(band: int) -> None:
            first, last = height * band // bands, height * (band + 1) // bands
            sums = np.empty((made.rotations, width, made.outputs), made.sums)
            _rows(padded, made.arrays, sums, made.settled, out[first:last], first)

        self._workers.run(work, bands)


class _Prepared:
    """A stage as arrays of numbers."""

    def __init__(self, stage: Stage) -> None:
        self.rotations, self.outputs, self.reach = stage.rotations, stage.outputs, stage.reach
        self.sums = np.int64 if too_large(stage) else np.int32
        entries = [stored(table).reshape(-1, stage.outputs) for table in stage.tables]
        starts = np.cumsum([0, *[len(part) for part in entries]])
        whole = denominator(stage)
        sources = [_sources(stage, quarter) for quarter in range(stage.rotations)]
        ends = np.cumsum([[len(tap) for tap in t.taps] + [0] * (_TAPS - len(t.taps)) for t in stage.tables])
        self.arrays = (
            np.array(sources, np.int64),
            np.array([0, *ends], np.int64),
            np.array([_grids(t, start, whole) for t, start in zip(stage.tables, starts, strict=False)], np.int64),
            np.concatenate(entries),
        )
        order = np.arange(stage.outputs)
        turns = [quarter if stage.scale > 1 else 0 for quarter in range(stage.rotations)]  # planes are not turned
        turned = [np.rot90(order.reshape(stage.scale, -1), -turn).reshape(-1) for turn in turns]
        self.settled = (np.array(turned), whole * stage.divisor, stage.bias)


def _sources(stage: Stage, quarter: int) -> list[tuple[int, int, int, int]]:
    """Of all tables: plane, row and column in a padded plane, weight (1 where values have no fraction)."""
    found = []
    for table in stage.tables:
        for source in table.sources:
            row, column = rotated(source.row, source.column, quarter)
            weight = source.weight if table.sampled else source.weight // WHOLE
            found.append((source.plane, stage.reach + row, stage.reach + column, weight))
    return found


def _grids(table: Table, start: int, whole: int) -> list[list[int]]:
    """The band's grid, or the whole table's, and the coarse one; as bits, factor, first row, strides, limit.

    The factor makes weights fit the stage's denominator; the limit is how far from the first value the others lie for
    the first grid, -1 where that is the only one.
    """
    limit = -1 if table.band is None else table.band.width * grids(table)[0].unit
    made = []
    for grid in grids(table):
        strides = [*grid.strides, *[0] * (_TAPS - len(grid.strides))]
        made.append([int(math.log2(grid.unit)), whole // grid.unit, start + grid.start, *strides, limit])
    return [made[0], made[-1]]


@compiled
def _values(padded: Plane, sources: Numbers, y: int, values: NDArray[np.int32]) -> None:
    """The values of a tap in a row: its pixels, times their weights."""
    width = len(values)
    values[:] = 0
    for plane, row, column, weight in sources:
        pixels = padded[plane, y + row, column : column + width]
        for x in range(width):
            values[x] += pixels[x] * weight


@compiled
def _corners(values: Ints, grid: Numbers, rows: Ints, weights: Ints) -> None:
    """Rows of the table and weights of the corners around each pixel's four values, as in runtime.c."""
    bits, factor, start, s0, s1, s2, s3 = grid[0], grid[1], grid[2], grid[3], grid[4], grid[5], grid[6]
    low = (1 << bits) - 1
    for x in range(values.shape[1]):
        a, b, c, d = values[0, x], values[1, x], values[2, x], values[3, x]
        row = start + (a >> bits) * s0 + (b >> bits) * s1 + (c >> bits) * s2 + (d >> bits) * s3
        # fraction and stride in one number: strides are below 2^16
        ka, kb = np.int32((a & low) << 16 | s0), np.int32((b & low) << 16 | s1)
        kc, kd = np.int32((c & low) << 16 | s2), np.int32((d & low) << 16 | s3)
        ka, kb = max(ka, kb), min(ka, kb)
        kc, kd = max(kc, kd), min(kc, kd)
        ka, kc = max(ka, kc), min(ka, kc)
        kb, kd = max(kb, kd), min(kb, kd)
        kb, kc = max(kb, kc), min(kb, kc)
        fa, fb, fc, fd = ka >> 16, kb >> 16, kc >> 16, kd >> 16
        rows[0, x] = row
        weights[0, x] = (low + 1 - fa) * factor
        row += ka & 0xFFFF
        rows[1, x] = row
        weights[1, x] = (fa - fb) * factor
        row += kb & 0xFFFF
        rows[2, x] = row
        weights[2, x] = (fb - fc) * factor
        row += kc & 0xFFFF
        rows[3, x] = row
        weights[3, x] = (fc - fd) * factor
        row += kd & 0xFFFF
        rows[4, x] = row
        weights[4, x] = fd * factor


@compiled
def _choose(values: Ints, limit: int, rows: Ints, weights: Ints, far_rows: Ints, far_weights: Ints) -> None:
    """Take the coarse table's corners for values that lie off the diagonal."""
    for x in range(values.shape[1]):
        a, b, c, d = values[0, x], values[1, x], values[2, x], values[3, x]
        if abs(b - a) > limit or abs(c - a) > limit or abs(d - a) > limit:
            for corner in range(5):
                rows[corner, x] = far_rows[corner, x]
                weights[corner, x] = far_weights[corner, x]


@compiled
def _gather(entries: NDArray[np.int8], rows: Ints, weights: Ints, sums: Numbers) -> None:
    """Add the weighted rows of each pixel to its sums."""
    outputs = sums.shape[1]
    for x in range(sums.shape[0]):
        a, b, c, d, e = rows[0, x], rows[1, x], rows[2, x], rows[3, x], rows[4, x]
        fa, fb, fc, fd, fe = weights[0, x], weights[1, x], weights[2, x], weights[3, x], weights[4, x]
        for k in range(outputs):
            sums[x, k] += (
                fa * entries[a, k] + fb * entries[b, k] + fc * entries[c, k] + fd * entries[d, k] + fe * entries[e, k]
            )


@compiled
def _settle(sums: Numbers, turned: Numbers, divisor: int, bias: int, out: Plane) -> None:
    """Sums of all rotations, turned back, to the blocks (W, rows, columns) of a row of pixels.

    A quotient of whole numbers below 2^53 is never rounded up to the next whole number.
    """
    width, high, wide = out.shape
    totals = np.empty(width)
    levels = np.empty(width, np.uint8)
    for row in range(high):
        for column in range(wide):
            totals[:] = divisor
            for quarter in range(len(turned)):
                value = turned[quarter, row * wide + column]
                for x in range(width):
                    totals[x] += 2.0 * sums[quarter, x, value]
            for x in range(width):
                levels[x] = np.uint8(min(max(np.floor(totals[x] / (2.0 * divisor)) + bias, 0.0), 255.0))
            for x in range(width):
                out[x, row, column] = levels[x]


@compiled
def _rows(padded: Plane, arrays: Arrays, sums: Numbers, settled: Settled, out: Plane, first: int) -> None:
    """Compute rows of a stage, from row ``first`` on."""
    sources, ends, tables, entries = arrays
    turned, divisor, bias = settled
    width = sums.shape[1]
    values = np.empty((4, width), np.int32)
    rows, weights = np.empty((5, width), np.int32), np.empty((5, width), np.int32)
    far_rows, far_weights = np.empty((5, width), np.int32), np.empty((5, width), np.int32)
    for y in range(out.shape[0]):
        sums[:] = 0
        for quarter in range(len(turned)):
            for table in range(len(tables)):
                for tap in range(4):
                    begin, end = ends[4 * table + tap], ends[4 * table + tap + 1]
                    _values(padded, sources[quarter, begin:end], first + y, values[tap])
                _corners(values, tables[table, 0], rows, weights)
                limit = tables[table, 0, 7]
                if limit >= 0:
                    _corners(values, tables[table, 1], far_rows, far_weights)
                    _choose(values, limit, rows, weights, far_rows, far_weights)
                _gather(entries, rows, weights, sums[quarter])
        _settle(sums, turned, divisor, bias, out[y])
