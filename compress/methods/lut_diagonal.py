"""Diagonal-first compression of look-up tables."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import pydantic

from compress.methods._tables import changed, stages_of
from compress.network import Network
from compress.registry import METHODS
from compress.workshop import ALONE, Workshop
from export.lut.network import Band, Stage, Table, band_rows

if TYPE_CHECKING:
    from compress.task import Task

__all__ = ["LutDiagonal"]


@METHODS.add("lut-diagonal")
@dataclass(frozen=True)
class LutDiagonal:
    """Keep look-up tables near their diagonal, where natural pixels lie, and every second node elsewhere.

    Diagonal-first compression (Li et al., CVPR 2024, Look-Up Table Compression, section 3.2): a tenth of the bytes.
    Tables of four neighbouring pixels only; tables of fewer taps, or across planes, stay whole.
    """

    lossy: ClassVar[bool] = True
    width: Annotated[int, pydantic.Field(ge=1, le=4)] = 2
    """Nodes that an index may lie off the first tap's."""
    coarser: Annotated[int, pydantic.Field(ge=1, le=4)] = 1
    """The coarse table keeps every 2^n-th node."""

    def __call__(self, network: Network, task: Task, workshop: Workshop = ALONE) -> Network:
        """The network with compressed tables.

        Raises:
            UsageError: it has no tables.
        """
        tables = stages_of(network, "lut-diagonal")
        stages = tuple(self._stage(stage) for stage in tables.stages)
        return changed(network, replace(tables, stages=stages))

    def _stage(self, stage: Stage) -> Stage:
        if any(table.band or len(table.taps) != 4 for table in stage.tables) or stage.rotations == 1:
            return stage
        return replace(stage, tables=tuple(self._table(table) for table in stage.tables))

    def _table(self, table: Table) -> Table:
        bits, nodes = table.interval_bits + self.coarser, table.nodes
        if bits > 7:
            return table
        near = band_rows(nodes, self.width) @ nodes ** np.arange(4)[::-1]
        step = 1 << self.coarser
        whole = table.entries.reshape(*[nodes] * 4, -1)
        coarse = whole[::step, ::step, ::step, ::step].reshape(-1, table.outputs)
        entries = np.concatenate([table.entries[near], coarse])
        return replace(table, entries=entries, band=Band(self.width, bits))
