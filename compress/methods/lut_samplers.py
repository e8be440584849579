"""Learned samplers in front of look-up tables."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import pydantic

from compress.errors import UsageError
from compress.methods._tables import changed, stages_of
from compress.network import Network
from compress.registry import METHODS
from compress.workshop import ALONE, Workshop
from export.lut.network import Source, Stage, Table, Tap

if TYPE_CHECKING:
    from compress.task import Task

__all__ = ["LutSamplers"]


@METHODS.add("lut-samplers")
@dataclass(frozen=True)
class LutSamplers:
    """Let each tap of look-up tables become a mean over a window, and over the plane read before it.

    AutoSample and AdaRL of AutoLUT (Xu et al., CVPR 2025).  The means begin as the taps themselves, so the values stay
    the same until ``lut-finetune`` trains them.  Costs 4 * window^2 products for each table, pixel and rotation.
    """

    window: Annotated[int, pydantic.Field(ge=2, le=9)] = 3
    mix: bool = True
    """Whether the plane that the last stage read is mixed in."""

    def __call__(self, network: Network, task: Task, workshop: Workshop = ALONE) -> Network:
        """The network with samplers.

        Raises:
            UsageError: it has no tables, or taps that lie outside of the window.
        """
        tables = stages_of(network, "lut-samplers")
        stages = [self._stage(stage, tables.stages[:number]) for number, stage in enumerate(tables.stages)]
        return changed(network, replace(tables, stages=tuple(stages)))

    def _stage(self, stage: Stage, before: tuple[Stage, ...]) -> Stage:
        if stage.rotations == 1 or any(table.sampled for table in stage.tables):
            return stage
        return replace(stage, tables=tuple(self._table(table, before) for table in stage.tables))

    def _table(self, table: Table, before: tuple[Stage, ...]) -> Table:
        planes = {source.plane for source in table.sources}
        if len(planes) != 1:
            return table
        plane = planes.pop()
        read = [plane, *_read_for(plane, before)] if self.mix else [plane]
        return replace(table, taps=tuple(self._tap(tap[0], read) for tap in table.taps))

    def _tap(self, pixel: Source, planes: list[int]) -> Tap:
        if max(pixel.row, pixel.column) >= self.window:
            raise UsageError(f"lut-samplers: a tap at {pixel.row}, {pixel.column}, expected it within {self.window}")
        places = [(p, r, c) for p in planes for r in range(self.window) for c in range(self.window)]
        own = (pixel.plane, pixel.row, pixel.column)
        return tuple(Source(*place, pixel.weight if place == own else 0) for place in places)


def _read_for(plane: int, before: tuple[Stage, ...]) -> list[int]:
    """The plane that the stage which made a plane read; none for the input, or where it read several."""
    first = 1
    for stage in before:
        if first <= plane < first + stage.outputs:
            read = {source.plane for table in stage.tables for source in table.sources}
            return [max(read)]
        first += stage.outputs
    return []
