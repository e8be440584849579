"""A network of tables as a torch module, in operators that ONNX, OpenVINO and TFLite have and run exactly.

All numbers are whole and lie within 2^24, so that float32 holds them exactly in every runtime.  One convolution with
0 and 1 (or a sampler's weights) brings each tap's pixels into place.  Fractions are put in order by a network of
compare-exchanges on keys that carry the tap's stride below the fraction, as in runtime.c; the rows are gathered as
int8.  Divisions are multiplications whose result lies half a step away from the next whole number at least, so that
their rounding cannot show.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from export.errors import ExportError
from export.lut.layout import Grid, grids, stored
from export.lut.network import WHOLE, Network, Stage, Table, Tap, rotated
from export.lut.numpy_engine import denominator

__all__ = ["Lookup"]

_EXACT = 1 << 24
"""Whole numbers up to here are exact in float32."""
_SORTERS: dict[int, tuple[tuple[int, int], ...]] = {
    1: (),
    2: ((0, 1),),
    3: ((0, 1), (1, 2), (0, 1)),
    4: ((0, 1), (2, 3), (0, 2), (1, 3), (1, 2)),
}
"""Places that are compared and exchanged, one pair after the other, until the largest comes first."""


class Lookup(nn.Module):
    """The network as (N, C, H, W) in [0, 1] to (N, C, scale*H, scale*W), multiples of 1/255; each channel by itself."""

    def __init__(self, tables: Network) -> None:
        """Take the entries over.

        Raises:
            ExportError: sums, keys or row numbers pass 2^24.
        """
        super().__init__()
        self.tables = tables
        self.scale = tables.scale
        self.halo = tables.halo
        self.stages = nn.ModuleList()
        for number, stage in enumerate(tables.stages):
            peak = 1.0 if number == len(tables.stages) - 1 else 255.0
            where = f"tables {tables.name}, stage {number}"
            self.stages.append(_Stage(stage, peak, tables.padding == "reflect", where))

    def forward(self, x: Tensor) -> Tensor:
        """Round to levels, and look up."""
        count, channels, height, width = x.shape
        # clamped between the product and the sum, lest a runtime fuse them and round once instead of twice
        levels = torch.floor(torch.clamp(x * 255.0, 0.0, 255.0) + 0.5)
        # a transposition, where it does, holds no size
        levels = levels.transpose(0, 1) if count == 1 else levels.reshape(count * channels, 1, height, width)
        planes = [levels]
        for stage in self.stages:
            planes += stage(planes)
        out = planes[-1]
        side = (height * self.scale, width * self.scale)
        return out.transpose(0, 1) if count == 1 else out.reshape(count, channels, *side)


class _Stage(nn.Module):
    """Planes (N, 1, H, W) of levels to further planes; in the last stage to the enlarged one, in 0..`peak`."""

    kernel: Tensor

    def __init__(self, stage: Stage, peak: float, mirrored: bool, where: str) -> None:
        super().__init__()
        self._peak, self._mirrored = peak, mirrored
        self._reach, self._scale, self._outputs = stage.reach, stage.scale, stage.outputs
        self._divisor, self._bias, self._whole = stage.divisor, stage.bias, denominator(stage)
        self._planes = sorted({s.plane for t in stage.tables for s in t.sources})
        key = 1 << max(max(g.strides) for t in stage.tables for g in grids(t)).bit_length()
        self.lookups = nn.ModuleList(_Table(table, self._whole, key, where) for table in stage.tables)
        kernels: dict[tuple[tuple[int, int, int, int], ...], int] = {}
        self._taps: list[list[list[int]]] = [[] for _ in range(stage.rotations)]
        """Number of the kernel by rotation, table and tap."""
        for quarter, places in enumerate(self._taps):
            for table in stage.tables:
                keys = [_places(tap, quarter) for tap in table.taps]
                places.append([kernels.setdefault(key, len(kernels)) for key in keys])
        self.register_buffer("kernel", self._kernel(list(kernels), any(t.sampled for t in stage.tables)))
        block = np.arange(self._outputs).reshape(self._scale, -1)
        for quarter in range(1, stage.rotations if self._scale > 1 else 1):
            turned = np.rot90(block, -quarter).reshape(-1)
            self.register_buffer(f"turn_{quarter}", torch.eye(self._outputs)[:, turned.tolist()])
        largest = sum(int(np.abs(t.entries.astype(np.int16)).max()) for t in stage.tables) * stage.rotations
        _ensure_exact(f"{where}: sums", self._whole * largest + self._whole * self._divisor // 2)

    def _kernel(self, taps: Sequence[Sequence[tuple[int, int, int, int]]], sampled: bool) -> Tensor:
        """(taps, planes, rows, columns): 1 where a tap takes its pixel, a sampler's weights in 1/256."""
        side = 2 * self._reach + 1
        kernel = torch.zeros(len(taps), len(self._planes), side, side)
        for number, tap in enumerate(taps):
            for plane, row, column, weight in tap:
                place = (self._planes.index(plane), row + self._reach, column + self._reach)
                kernel[(number, *place)] += weight if sampled else weight // WHOLE
        return kernel

    def forward(self, planes: list[Tensor]) -> list[Tensor]:
        """The planes that this stage adds."""
        used = [planes[number] for number in self._planes]
        around = self._padded(torch.cat(used, 1) if len(used) > 1 else used[0])
        # three dimensions from here on: OpenVINO pads the channel of four to a whole vector
        values = [v.squeeze(1) for v in _channels(functional.conv2d(around, self.kernel))]
        sums = []
        for quarter, places in enumerate(self._taps):
            found = _sum(lookup([values[k] for k in taps]) for lookup, taps in zip(self.lookups, places, strict=True))
            turn = getattr(self, f"turn_{quarter}", None)
            sums.append(found if turn is None else torch.matmul(found, turn))
        settled = self._settled(_sum(sums)).permute(0, 3, 1, 2)
        return [functional.pixel_shuffle(settled, self._scale)] if self._scale > 1 else _channels(settled)

    def _padded(self, planes: Tensor) -> Tensor:
        """The planes and what lies around them, in the first of the three ways that the sizes allow."""
        reach, sides = self._reach, planes.shape[2:]
        if self._mirrored and not all(isinstance(side, int) for side in sides):
            rows, columns = _mirrored_places(sides, reach)
            return planes.index_select(2, rows).index_select(3, columns)
        if self._mirrored and min(sides) > reach:
            return functional.pad(planes, (reach,) * 4, mode="reflect")
        for _ in range(reach):  # by one pixel, which is all that TFLite's MIRROR_PAD can repeat
            planes = functional.pad(planes, (1,) * 4, mode="replicate")
        return planes

    def _settled(self, sums: Tensor) -> Tensor:
        """Sum / divisor + bias, half up, in 0..255: floor(x / ab) is floor(floor(x / a) / b), a a power of two."""
        shift = self._whole * (self._divisor & -self._divisor)
        odd = self._whole * self._divisor // shift
        values = torch.floor(sums * (1 / shift) + odd / 2)
        if odd > 1:
            values = torch.floor(values * (1 / odd) + 0.5 / odd)
        levels = torch.clamp(values + float(self._bias) if self._bias else values, 0.0, 255.0)
        return levels if self._peak == 255 else levels * (self._peak / 255)


class _Table(nn.Module):
    """The values (N, H, W) of a table's taps to `whole` times what lies between its entries, (N, H, W, outputs)."""

    entries: Tensor

    def __init__(self, table: Table, whole: int, key: int, where: str) -> None:
        super().__init__()
        self._grids = found = grids(table)
        self._key = key
        self._rest = whole // found[-1].unit
        """What the weights lack to add up to `whole`."""
        self._width = 0 if table.band is None else table.band.width * found[0].unit
        self.register_buffer("entries", torch.from_numpy(stored(table)))
        _ensure_exact(f"{where}: keys", key * found[-1].unit // 2)
        _ensure_exact(f"{where}: row numbers", len(self.entries))

    def forward(self, values: list[Tensor]) -> Tensor:
        """Weighted entries of the corners of the simplex that holds the values."""
        row, fractions, strides = self._placed(values)
        unit, key = self._grids[-1].unit, self._key
        # around zero, which gives the keys one bit more
        keys = [f * key + (s - unit * key // 2) for f, s in zip(fractions, strides, strict=True)]
        for one, other in _SORTERS[len(keys)]:
            high, low = torch.maximum(keys[one], keys[other]), torch.minimum(keys[one], keys[other])
            keys[one], keys[other] = high, low
        ranked = [torch.floor(k * (1 / key)) for k in keys]
        weights = [unit / 2 - ranked[0], *(a - b for a, b in pairwise(ranked)), ranked[-1] + unit / 2]
        steps = (k - f * key for k, f in zip(keys, ranked, strict=True))
        corners = zip(weights, accumulate([row, *steps]), strict=True)
        found = _sum(weight.unsqueeze(-1) * self._entries(at) for weight, at in corners)
        return found * float(self._rest) if self._rest > 1 else found

    def _entries(self, row: Tensor) -> Tensor:
        return functional.embedding(row.to(torch.int32), self.entries).to(torch.float32)

    def _placed(self, values: list[Tensor]) -> tuple[Tensor, list[Tensor], list[Tensor | int]]:
        """The row of the corner below, and each tap's fraction and stride."""
        grid = self._grids[-1]
        row, fractions = _place(grid, values)
        strides: list[Tensor | int] = list(grid.strides)
        if len(self._grids) == 1:
            return row, fractions, strides
        fine = self._grids[0]
        near = functools.reduce(torch.maximum, [(v - values[0]).abs() for v in values[1:]]) <= float(self._width)
        fine_row, fine_fractions = _place(fine, values)
        ratio = float(grid.unit // fine.unit)
        fractions = [torch.where(near, f * ratio, c) for f, c in zip(fine_fractions, fractions, strict=True)]
        chosen = [torch.where(near, float(f), float(c)) for f, c in zip(fine.strides, grid.strides, strict=True)]
        return torch.where(near, fine_row, row), fractions, [*chosen]


def _mirrored_places(sides: Sequence[int], reach: int) -> list[Tensor]:
    """Rows and columns that stand for those from -reach to side + reach, in a graph whose sides are open.

    Mirror images, or the last row and column again where a side is no longer than the reach: as arithmetic, because
    such a graph has no branches, and because OpenVINO crashes where a Pad finds too little to mirror.
    """
    places = [torch.arange(-reach, side + reach) for side in sides]
    last = [found[-1] - reach for found in places]
    wide = torch.minimum(*last) >= reach
    return [
        torch.where(wide, end - (end - found.abs()).abs(), torch.minimum(found.clamp(min=0), end))
        for found, end in zip(places, last, strict=True)
    ]


def _places(tap: Tap, quarter: int) -> tuple[tuple[int, int, int, int], ...]:
    """Plane, row, column and weight of a tap's sources in an image turned by quarters."""
    return tuple((s.plane, *rotated(s.row, s.column, quarter), s.weight) for s in tap)


def _channels(planes: Tensor) -> list[Tensor]:
    """Each by itself; TFLite's converter cannot split one off one."""
    return list(torch.split(planes, 1, 1)) if planes.shape[1] > 1 else [planes]


def _ensure_exact(what: str, most: int) -> None:
    if most > _EXACT:
        raise ExportError(
            f"{what} up to {most}, which float32 does not hold exactly, expected at most {_EXACT}; write it as lut or c"
        )


def _place(grid: Grid, values: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The row of the nodes below, and what lies above them."""
    nodes = [torch.floor(v * (1 / grid.unit)) for v in values]
    fractions = [v - node * float(grid.unit) for v, node in zip(values, nodes, strict=True)]
    row = _sum(node * float(stride) for node, stride in zip(nodes, grid.strides, strict=True))
    return row + float(grid.start) if grid.start else row, fractions


def _sum(terms: Iterable[Tensor]) -> Tensor:
    return functools.reduce(operator.add, terms)
