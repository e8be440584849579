"""What a network of look-up tables is: stages of tables, each read at a few taps and interpolated between nodes.

One engine for the family: SR-LUT (Jo and Kim, CVPR 2021), MuLUT (Li et al., ECCV 2022), SPF-LUT with its channel
table and diagonal-first compression (Li et al., CVPR 2024), AutoLUT's learned samplers (Xu et al., CVPR 2025).

A network works on one channel of uint8 pixels.  Plane 0 is the input; the outputs of every stage but the last are
further planes of the same size, in uint8 again.  The last stage gives scale x scale pixels for each input pixel.
All arithmetic is in integers, so that every runtime gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from export.errors import ExportError
from export.separable.network import Separable

__all__ = [
    "PATTERNS",
    "WHOLE",
    "Band",
    "Network",
    "Source",
    "Stage",
    "Table",
    "Tables",
    "Tap",
    "plain_taps",
    "rotated",
    "tables_of",
]

PATTERNS: dict[str, tuple[tuple[int, int], ...]] = {
    "S": ((0, 0), (0, 1), (1, 0), (1, 1)),
    "D": ((0, 0), (0, 2), (2, 0), (2, 2)),
    "Y": ((0, 0), (1, 1), (1, 2), (2, 1)),
    "E": ((0, 0), (0, 3), (3, 0), (3, 3)),
    "H": ((0, 0), (2, 2), (2, 3), (3, 2)),
    "O": ((0, 0), (2, 2), (1, 3), (3, 1)),
    "1x2": ((0, 0), (0, 1)),
    "1x3": ((0, 0), (0, 1), (0, 2)),
}
"""(row, column) of the taps, the first one the most significant in a table's row number."""
WHOLE = 256
"""What the weights of a tap's sources add up to."""
_REACH = 16  # pixels that a tap may lie away


@dataclass(frozen=True)
class Source:
    """A pixel that a tap takes its value from."""

    plane: int
    row: int
    column: int
    weight: int = WHOLE
    """0 to 256, in 1/256."""


Tap = tuple[Source, ...]
"""A value to look up: the weighted mean of some pixels; of one for the plain patterns."""


@dataclass(frozen=True)
class Band:
    """Diagonal-first compression: nodes near the diagonal at full resolution, all others from a coarse table.

    The first rows of the entries are the band's, in the order of :meth:`rows`; the coarse table follows.
    """

    width: int
    """Nodes that an index may lie off the first tap's."""
    interval_bits: int
    """Of the coarse table."""


@dataclass(frozen=True, eq=False)
class Table:
    """Entries at the nodes of a grid over the taps' values."""

    taps: tuple[Tap, ...]
    entries: NDArray[np.int8]
    """(rows, outputs); row a*L^(n-1) + b*L^(n-2) + ... for the nodes a, b, ... of the n taps."""
    interval_bits: int = 4
    """Two nodes lie 2^bits grey levels apart."""
    band: Band | None = None

    @property
    def nodes(self) -> int:
        """Along each tap."""
        return (256 >> self.interval_bits) + 1

    @property
    def outputs(self) -> int:
        """Values in a row."""
        return int(self.entries.shape[1])

    @cached_property
    def sampled(self) -> bool:
        """Whether some tap is a mean of pixels, whose value has a fraction."""
        return any(len(tap) > 1 for tap in self.taps)

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """Of all taps."""
        return tuple(source for tap in self.taps for source in tap)


@dataclass(frozen=True, eq=False)
class Stage:
    """Tables whose values are added up: over all rotations of the taps, then over the tables.

    A plane's value is the sum / divisor + bias, rounded half up and clipped to 0..255.
    """

    tables: tuple[Table, ...]
    divisor: int
    bias: int = 0
    rotations: Literal[1, 4] = 4
    scale: int = 1
    """Of the last stage; 1 for the others, whose outputs are planes."""

    @property
    def outputs(self) -> int:
        """Values for each pixel."""
        return self.tables[0].outputs

    @cached_property
    def reach(self) -> int:
        """The farthest that a source lies from its pixel, rows or columns."""
        return max(max(abs(s.row), abs(s.column)) for t in self.tables for s in t.sources)


@dataclass(frozen=True, eq=False)
class Network:
    """A whole network."""

    name: str
    stages: tuple[Stage, ...]
    padding: Literal["replicate", "reflect"] = "replicate"
    """What lies outside of every plane."""

    def __post_init__(self) -> None:
        """Check that all parts fit.

        Raises:
            ExportError: they do not; says which and what was expected.
        """
        if not self.stages:
            raise ExportError(f"tables {self.name}: no stages")
        planes = 1
        for number, stage in enumerate(self.stages):
            last = number == len(self.stages) - 1
            for message in _wrong(stage, planes, last):
                raise ExportError(f"tables {self.name}, stage {number}: {message}")
            planes += 0 if last else stage.outputs

    @property
    def scale(self) -> int:
        """Output pixels for each input pixel, along a side."""
        return self.stages[-1].scale

    @property
    def table_bytes(self) -> int:
        """Of all entries."""
        return sum(table.entries.nbytes for stage in self.stages for table in stage.tables)

    @property
    def lookups(self) -> int:
        """For each pixel, over all rotations."""
        return sum(len(stage.tables) * stage.rotations for stage in self.stages)

    @property
    def halo(self) -> int:
        """Radius of the receptive field in input pixels."""
        return sum(stage.reach for stage in self.stages)


Tables = Network | Separable
"""Of up to four values, or of one."""


def tables_of(module: object) -> Tables | None:
    """The tables that a torch module consists of; None for all others."""
    found = getattr(module, "tables", None)
    return found if isinstance(found, Network | Separable) else None


def _wrong(stage: Stage, planes: int, last: bool) -> Iterator[str]:
    """What does not fit in a stage that sees some planes."""
    if not stage.tables:
        yield "no tables"
        return
    within = {
        "rotations": (stage.rotations, (1, 4)),
        "divisor": (stage.divisor, range(1, 4097)),
        "bias": (stage.bias, range(-255, 256)),
        "scale": (stage.scale, range(1, 9) if last else (1,)),
    }
    for what, (found, allowed) in within.items():
        if found not in allowed:
            yield f"{what} {found}, expected {allowed[0]} to {allowed[-1]}"
    for number, table in enumerate(stage.tables):
        for message in (*_misplaced(table, planes), *_missized(table)):
            yield f"table {number}: {message}"
    yield from _unlike(stage, stage.scale**2 if last else stage.outputs)


def _unlike(stage: Stage, wanted: int) -> Iterator[str]:
    """What does not fit about tables side by side, of as many values a row."""
    for number, table in enumerate(stage.tables):
        if table.outputs != wanted:
            yield f"table {number}: {table.outputs} values a row, expected {wanted}"
    if len({(t.interval_bits, t.sampled) for t in stage.tables}) > 1:
        yield "tables of unlike intervals or samplers, expected one kind a stage"


def _misplaced(table: Table, planes: int) -> Iterator[str]:
    """What does not fit about a table's taps."""
    if not 1 <= len(table.taps) <= 4:
        yield f"{len(table.taps)} taps, expected 1 to 4"
    for source in table.sources:
        if not (0 <= source.plane < planes and max(abs(source.row), abs(source.column)) <= _REACH):
            yield f"{source}, expected one of {planes} planes and at most {_REACH} pixels away"
        if not 0 <= source.weight <= WHOLE:
            yield f"{source}, expected a weight of 0 to {WHOLE}"
    if any(not tap or sum(s.weight for s in tap) != WHOLE for tap in table.taps):
        yield f"weights of a tap's sources add up to something else than {WHOLE}"


def _missized(table: Table) -> Iterator[str]:
    """What does not fit about a table's entries."""
    bits, band = table.interval_bits, table.band
    if bits not in range(3, 8):
        yield f"nodes 2^{bits} apart, expected 2^3 to 2^7"
        return
    if band is not None and not (
        len(table.taps) == 4 and band.width in range(1, 5) and band.interval_bits in range(bits + 1, 8)
    ):
        yield f"{band}, expected 4 taps, a width of 1 to 4 and a coarser interval than 2^{bits}"
        return
    rows = rows_of(len(table.taps), bits, band)
    shape = table.entries.shape
    if table.entries.dtype != np.int8 or len(shape) != 2 or shape[0] != rows or shape[1] not in range(1, 65):
        found = f"entries {table.entries.dtype} {shape}"
        yield f"{found}, expected int8 ({rows}, 1 to 64) for {len(table.taps)} taps of {table.nodes} nodes"


def rows_of(taps: int, interval_bits: int, band: Band | None = None) -> int:
    """How many rows a table has."""
    if band is None:
        return int(((256 >> interval_bits) + 1) ** taps)
    return len(band_rows((256 >> interval_bits) + 1, band.width)) + rows_of(taps, band.interval_bits)


def band_rows(nodes: int, width: int) -> NDArray[np.int64]:
    """(rows, 4): the nodes of the rows near the diagonal, in their order."""
    grid = np.stack(np.meshgrid(*[np.arange(nodes)] * 4, indexing="ij"), -1).reshape(-1, 4)
    near: NDArray[np.int64] = grid[(np.abs(grid[:, 1:] - grid[:, :1]) <= width).all(1)]
    return near


def plain_taps(pattern: str, plane: int = 0) -> tuple[Tap, ...]:
    """The taps of a pattern by name.

    Raises:
        ExportError: no such pattern.
    """
    if pattern not in PATTERNS:
        raise ExportError(f"unknown pattern {pattern!r}; known: {', '.join(PATTERNS)}")
    return tuple((Source(plane, row, column),) for row, column in PATTERNS[pattern])


def rotated(row: int, column: int, quarter: int) -> tuple[int, int]:
    """Where a tap lies in the image when the image was turned counter-clockwise by quarters before the look-up."""
    for _ in range(quarter % 4):
        row, column = column, -row
    return row, column
