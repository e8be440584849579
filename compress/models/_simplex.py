"""Tables read between their nodes, differentiable in the entries and in the values (arXiv:2203.13563, section 3.4).

The simplex interpolation of export/lut/numpy_engine.py on tensors.  On the CPU a compiled pass does it (_simplex.c),
where a compiler is; elsewhere, and on a GPU, torch's own operations.  Values have 8 binary places and weights are
exact in float32, so that sums over whole entries are the engine's integers.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compress.models._passes import at, passes, shared
from export.lut.network import WHOLE, Band, band_rows, rows_of

__all__ = ["Grid", "Located", "interpolate"]

_PLACES = WHOLE.bit_length() - 1
_CODE = "_simplex.c"
_SHARE = 4096  # points that are worth a thread


@dataclass(frozen=True)
class Grid:
    """The nodes of a table over some taps."""

    taps: int
    interval_bits: int = 4
    band: Band | None = None

    @cached_property
    def rows(self) -> int:
        """Of the table."""
        return rows_of(self.taps, self.interval_bits, self.band)

    @cached_property
    def start(self) -> int:
        """The first row of the coarse table; 0 without a band."""
        return 0 if self.band is None else self.rows - rows_of(self.taps, self.band.interval_bits)

    @cached_property
    def nodes(self) -> Tensor:
        """(rows, taps) float32: the grey levels, 0 to 256, of the node behind each row."""
        if self.band is None:
            return _lattice(self.taps, self.interval_bits)
        near = band_rows((256 >> self.interval_bits) + 1, self.band.width) << self.interval_bits
        return torch.cat([torch.from_numpy(near).float(), _lattice(self.taps, self.band.interval_bits)])

    @cached_property
    def numbers(self) -> Tensor | None:
        """int32: the band's row of each row of the whole table, 0 where it has none."""
        if self.band is None:
            return None
        count = (256 >> self.interval_bits) + 1
        near = band_rows(count, self.band.width)
        numbers = np.zeros(count**self.taps, np.int32)
        numbers[near @ count ** np.arange(self.taps)[::-1]] = np.arange(len(near))
        return torch.from_numpy(numbers)

    def locate(self, values: Tensor) -> Located:
        """The corners around each of the points (N, taps), grey levels 0 to 255."""
        fixed = (values.detach().nan_to_num() * WHOLE).round().clamp(0, 255 * WHOLE).to(torch.int32).contiguous()
        code = passes(_CODE) if fixed.device.type == "cpu" else None
        return _located(self, fixed) if code is None else _located_by(code, self, fixed)


@dataclass(frozen=True)
class Located:
    """Where N points lie in a table."""

    grid: Grid
    rows: Tensor
    """(N, taps + 1) int32."""
    weights: Tensor
    """(N, taps + 1) float32, of sum 1."""
    order: Tensor
    """(N, taps) uint8: the tap along which each corner lies one node further than the one before."""
    coarse: Tensor
    """(N,) uint8: 1 for points that read the coarse table."""
    seen: Tensor
    """(rows,) uint8: 1 for rows that are read."""

    def among(self, chosen: Tensor) -> Located:
        """The same points in a table that has the chosen rows only, int64 indices that hold all rows read."""
        places = torch.zeros(self.grid.rows, dtype=torch.int32, device=self.rows.device)
        places[chosen] = torch.arange(len(chosen), dtype=torch.int32, device=self.rows.device)
        return Located(self.grid, places[self.rows], self.weights, self.order, self.coarse, self.seen)


def _lattice(taps: int, bits: int) -> Tensor:
    levels = torch.arange(0, 257, 1 << bits).float()
    return torch.cartesian_prod(*[levels] * taps).reshape(-1, taps)


def interpolate(values: Tensor, located: Located, entries: Tensor) -> Tensor:
    """(N, outputs): the table of entries (rows, outputs) at the points that ``values`` (N, taps) were located at."""
    found: Tensor = _Interpolation.apply(values, entries, located)  # type: ignore[no-untyped-call]
    return found


class _Interpolation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, entries: Tensor, located: Located) -> Tensor:
        ctx.located = located
        ctx.save_for_backward(entries)
        code = passes(_CODE) if entries.device.type == "cpu" else None
        if code is not None:
            return _read_by(code, located, entries.detach().contiguous())
        return torch.einsum("nc,nco->no", located.weights, entries[located.rows])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (entries,) = ctx.saved_tensors
        code = passes(_CODE) if entries.device.type == "cpu" else None
        given = gradients[0].contiguous()
        if code is not None:
            return (*_backward_by(code, ctx.located, entries.detach().contiguous(), given), None)
        return (*_backward(ctx.located, entries, given), None)


def _backward(located: Located, entries: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    to_entries = torch.zeros_like(entries)
    along = []
    for corner in range(located.rows.shape[1]):
        rows = located.rows[:, corner]
        to_entries.index_add_(0, rows, gradient * located.weights[:, corner : corner + 1])
        along.append((gradient * entries[rows]).sum(1))
    fine, coarse = _units(located.grid)
    unit = torch.where(located.coarse.bool(), coarse, fine)[:, None]
    slopes = torch.stack(along, 1).diff(dim=1) / unit
    return torch.zeros_like(slopes).scatter_(1, located.order.long(), slopes), to_entries


def _units(grid: Grid) -> tuple[float, float]:
    """Grey levels between nodes: of the table, or the band and its coarse table."""
    return float(1 << grid.interval_bits), float(1 << (grid.band or Band(0, grid.interval_bits)).interval_bits)


def _located(grid: Grid, fixed: Tensor) -> Located:
    """:meth:`Grid.locate` in torch."""
    numbers = grid.numbers
    if grid.band is None or numbers is None:
        rows, weights, order = _corners(fixed, grid.interval_bits)
        coarse = torch.zeros(len(fixed), dtype=torch.uint8, device=fixed.device)
    else:
        limit = grid.band.width << (grid.interval_bits + _PLACES)
        far = ((fixed[:, 1:] - fixed[:, :1]).abs() > limit).any(1, keepdim=True)
        near_corners = _corners(fixed, grid.interval_bits)
        near = numbers.to(fixed.device)[near_corners[0].clamp(max=len(numbers) - 1)]
        far_corners = _corners(fixed, grid.band.interval_bits)
        rows = torch.where(far, far_corners[0] + grid.start, near)
        weights = torch.where(far, far_corners[1], near_corners[1])
        order, coarse = torch.where(far, far_corners[2], near_corners[2]), far[:, 0].to(torch.uint8)
    seen = torch.zeros(grid.rows, dtype=torch.uint8, device=fixed.device)
    seen[rows.reshape(-1)] = 1
    return Located(grid, rows, weights, order, coarse, seen)


def _corners(fixed: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, weights and order of one grid."""
    taps, unit = fixed.shape[1], 1 << (bits + _PLACES)
    strides = torch.tensor([((256 >> bits) + 1) ** (taps - 1 - t) for t in range(taps)], device=fixed.device)
    first = ((fixed >> (bits + _PLACES)) * strides).sum(1, keepdim=True)
    fractions, order = torch.sort(fixed & (unit - 1), dim=1, descending=True, stable=True)
    steps = torch.where(fractions > 0, strides[order], 0).cumsum(1)
    rows = torch.cat([first, first + steps], 1).to(torch.int32)
    edges = torch.nn.functional.pad(fractions, (1, 1))
    edges[:, 0] = unit
    return rows, (edges[:, :-1] - edges[:, 1:]).float() / unit, order.to(torch.uint8)


def _located_by(code: ctypes.CDLL, grid: Grid, fixed: Tensor) -> Located:
    count, taps = fixed.shape
    found = Located(
        grid,
        torch.empty(count, taps + 1, dtype=torch.int32),
        torch.empty(count, taps + 1),
        torch.empty(count, taps, dtype=torch.uint8),
        torch.empty(count, dtype=torch.uint8),
        torch.zeros(grid.rows, dtype=torch.uint8),
    )
    numbers, band = grid.numbers, grid.band or Band(0, grid.interval_bits)
    shape = (taps, grid.interval_bits, band.width, band.interval_bits, at(numbers), grid.start)
    outs = [at(t) for t in (found.rows, found.weights, found.order, found.coarse, found.seen)]

    def work(part: int, first: int, last: int) -> None:
        code.ep_locate(at(fixed), *shape, ctypes.c_long(first), ctypes.c_long(last), *outs)

    shared(count, _SHARE, work)
    return found


def _read_by(code: ctypes.CDLL, located: Located, entries: Tensor) -> Tensor:
    count, corners = located.rows.shape
    out = torch.empty(count, entries.shape[1])

    def work(part: int, first: int, last: int) -> None:
        given = (at(located.rows), at(located.weights), at(entries), corners, entries.shape[1])
        code.ep_read(*given, ctypes.c_long(first), ctypes.c_long(last), at(out))

    shared(count, _SHARE, work)
    return out


def _backward_by(code: ctypes.CDLL, located: Located, entries: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    count, corners = located.rows.shape
    to_values = torch.empty(count, corners - 1)
    to_entries = torch.zeros(torch.get_num_threads(), *entries.shape)
    units = [ctypes.c_float(unit) for unit in _units(located.grid)]
    given = [at(t) for t in (located.rows, located.weights, located.order, located.coarse, entries, gradient)]

    def work(part: int, first: int, last: int) -> None:
        sizes = (corners, entries.shape[1], *units, ctypes.c_long(first), ctypes.c_long(last))
        code.ep_backward(*given, *sizes, at(to_entries[part]), at(to_values))

    parts = shared(count, _SHARE, work)
    return to_values, to_entries[:parts].sum(0)
