"""A network of tables in numpy: the plain statement of what the fast engines compute, and the one that always runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from export.lut.network import WHOLE, Network, Source, Stage, Table, band_rows, rotated, rows_of

__all__ = ["enlarge"]

Plane = NDArray[np.uint8]
Ints = NDArray[np.int64]
_FRACTION = WHOLE.bit_length() - 1


def enlarge(network: Network, image: Plane) -> Plane:
    """One channel (H, W) to (scale*H, scale*W)."""
    planes = [image]
    for stage in network.stages[:-1]:
        total = sums(stage, planes, network.padding)
        planes += list(settle(total, stage).transpose(2, 0, 1))
    last = network.stages[-1]
    height, width, scale = *image.shape, last.scale
    blocks = settle(sums(last, planes, network.padding), last).reshape(height, width, scale, scale)
    return np.ascontiguousarray(blocks.transpose(0, 2, 1, 3)).reshape(height * scale, width * scale)


def denominator(stage: Stage) -> int:
    """What the sums of a stage are multiplied by: the resolution of its interpolation weights."""
    bits = max(t.interval_bits if t.band is None else t.band.interval_bits for t in stage.tables)
    return int(1 << (bits + _FRACTION * any(t.sampled for t in stage.tables)))


def settle(total: Ints, stage: Stage) -> Plane:
    """Sums (H, W, outputs) to pixels."""
    divisor = denominator(stage) * stage.divisor
    values = (2 * total + divisor) // (2 * divisor) + stage.bias
    return np.clip(values, 0, 255).astype(np.uint8)


def sums(stage: Stage, planes: list[Plane], padding: str) -> Ints:
    """(H, W, outputs) of a stage: all tables in all rotations, times the denominator."""
    reach = stage.reach
    height, width = planes[0].shape
    mode: Literal["edge", "reflect"] = "reflect" if padding == "reflect" and min(height, width) > reach else "edge"
    padded = [np.pad(plane, reach, mode=mode) for plane in planes]
    total = np.zeros((height, width, stage.outputs), np.int64)
    for table in stage.tables:
        for quarter in range(stage.rotations):

            def seen(source: Source, quarter: int = quarter) -> Ints:
                row, column = rotated(source.row, source.column, quarter)
                part = padded[source.plane][reach + row :, reach + column :][:height, :width]
                return part.astype(np.int64) * source.weight

            found = _read(table, seen, denominator(stage))
            if stage.scale > 1:
                blocks = found.reshape(height, width, stage.scale, stage.scale)
                found = np.rot90(blocks, -quarter, (2, 3)).reshape(height, width, -1)
            total += found
    return total


def _read(table: Table, seen: Callable[[Source], Ints], whole: int) -> Ints:
    """A table's values at every pixel, times the denominator."""
    fraction = _FRACTION if table.sampled else 0
    values = np.stack([sum(seen(source) for source in tap) for tap in table.taps])
    values = values if table.sampled else values // WHOLE
    bits = table.interval_bits + fraction
    if table.band is None:
        return _interpolated(values, bits, lambda nodes: nodes_to_rows(nodes, table.nodes), table, whole)
    limit = table.band.width << bits
    near = (np.abs(values[1:] - values[:1]) <= limit).all(0)
    first = rows_of(4, table.interval_bits, table.band) - rows_of(4, table.band.interval_bits)
    number = _band_numbers(table)
    width = table.band.width

    def in_band(nodes: Ints) -> Ints:
        apart = nodes[1:] - nodes[:1] + width
        inside = ((apart >= 0) & (apart <= 2 * width)).all(0)
        found: Ints = number[(nodes[0], *np.where(inside, apart, width))] * inside  # one outside weighs nothing
        return found

    fine = _interpolated(values, bits, in_band, table, whole)
    coarse_nodes = (256 >> table.band.interval_bits) + 1
    coarse_bits = table.band.interval_bits + fraction
    coarse = _interpolated(values, coarse_bits, lambda n: first + nodes_to_rows(n, coarse_nodes), table, whole)
    chosen: Ints = np.where(near[..., None], fine, coarse)
    return chosen


def nodes_to_rows(nodes: Ints, count: int) -> Ints:
    """Row numbers of corners (taps, ...), the first tap the most significant."""
    rows: Ints = np.zeros_like(nodes[0])
    for node in nodes:
        rows = rows * count + node
    return rows


def _band_numbers(table: Table) -> Ints:
    """(nodes, 2w+1, 2w+1, 2w+1): the row of a first node and the others' distances from it; 0 where there is none."""
    assert table.band is not None
    width = table.band.width
    rows = band_rows(table.nodes, width)
    numbers = np.zeros((table.nodes, *[2 * width + 1] * 3), np.int64)
    numbers[(rows[:, 0], *(rows[:, 1:] - rows[:, :1] + width).T)] = np.arange(len(rows))
    return numbers


def _interpolated(values: Ints, bits: int, row: Callable[[Ints], Ints], table: Table, whole: int) -> Ints:
    """Simplex interpolation in its sorted form, times the denominator.

    From the corner below, one step along each tap, those with the largest fractions first; each corner weighs the
    difference of two neighbouring fractions (SR-LUT, supplementary material).
    """
    unit = 1 << bits
    nodes, fractions = values >> bits, values & (unit - 1)
    order = np.argsort(-fractions, axis=0, kind="stable")
    ranked = np.take_along_axis(fractions, order, 0)
    weights = np.concatenate([unit - ranked[:1], ranked[:-1] - ranked[1:], ranked[-1:]])
    total: Ints = weights[0][..., None] * table.entries[row(nodes)].astype(np.int64)
    corner = nodes.copy()
    for place, weight in enumerate(weights[1:]):
        tap = order[place : place + 1]
        np.put_along_axis(corner, tap, np.take_along_axis(corner, tap, 0) + 1, 0)
        total += weight[..., None] * table.entries[row(corner)]
    return total * (whole // unit)
