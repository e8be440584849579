"""Where a table's rows lie in memory: so that a row's number is linear in its nodes, near the diagonal too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.lut.network import WHOLE, Table, band_rows

__all__ = ["Grid", "grids", "stored"]


@dataclass(frozen=True)
class Grid:
    """Nodes of a table and their rows."""

    unit: int
    """Between two nodes, in the taps' resolution."""
    strides: tuple[int, ...]
    """Rows from a node to the next, for each tap."""
    start: int = 0
    """Row of the nodes 0."""


def grids(table: Table) -> tuple[Grid, ...]:
    """That of the band, where there is one, and that of the whole table."""
    whole = WHOLE if table.sampled else 1
    count = len(table.taps)
    if table.band is None:
        return (Grid(whole << table.interval_bits, _strides(table.nodes, count)),)
    side = 2 * table.band.width + 1  # the row of nodes a, b, c, d is side^3 a + side^2 (b-a+width) + ...
    _, *others = _strides(side, count)
    first = side**3 - sum(others)
    coarse_nodes = (256 >> table.band.interval_bits) + 1
    return (
        Grid(whole << table.interval_bits, (first, *others), table.band.width * sum(others)),
        Grid(whole << table.band.interval_bits, _strides(coarse_nodes, count), table.nodes * side**3),
    )


def _strides(nodes: int, taps: int) -> tuple[int, ...]:
    return tuple(nodes ** (taps - 1 - k) for k in range(taps))


def stored(table: Table) -> NDArray[np.int8]:
    """The entries, a band's with room for the nodes that it has not, so that a row's number is linear in its nodes."""
    if table.band is None:
        return np.array(table.entries)
    fine, coarse = grids(table)
    near = band_rows(table.nodes, table.band.width)
    room = np.zeros((coarse.start, table.outputs), np.int8)
    room[near @ np.array(fine.strides) + fine.start] = table.entries[: len(near)]
    return np.concatenate([room, table.entries[len(near) :]])
