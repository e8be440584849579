"""Grids on which a step loses nothing: 8-bit images at the ends, constants that are added or multiplied."""

from __future__ import annotations

import torch
from torch import Tensor

from export.graph.ir import Graph, Grid, Op

__all__ = ["exact_constants", "exact_ends", "share_grids"]

_SHIFTED = {"ADD": 1.0, "SUB": -1.0, "Add": 1.0, "Sub": -1.0}
_SCALED = ("MUL", "Mul")
_REQUANTIZED = ("QUANTIZE",)
_JOINED = ("Concat",)
_GATES = ("Sigmoid",)
_ALIKE = 0.75  # scales within this factor become one
_MEANS_APART = 16  # grey levels; means closer than this become one


def exact_ends(graph: Graph, image_out: bool, refitted: bool = True) -> None:
    """Put images of 256 grey levels on the grid of their levels: the input, a mean taken off it, and the output.

    Means of the channels that lie close together become one, so that the difference fits the 256 integers; the
    next layer's bias makes up for it, so this is done only where biases are ``refitted`` afterwards.
    """
    for name in (graph.input, *([graph.output] if image_out else [])):
        grid = graph.grids.get(name)
        if grid is None or grid.scale.numel() != 1 or grid.high - grid.low != 255:
            continue
        if name == graph.input or _spans_an_image(grid):
            _put(grid, 1.0 / 255.0, float(grid.low))
    first = graph.grids.get(graph.input)
    wide = first is not None and first.high - first.low > 255
    for op in graph.consumers(graph.input) if refitted and not wide else ():
        constant = _constant_of(graph, op)
        if constant is None or op.kind not in _SHIFTED or op.inputs[0] != graph.input:
            continue
        levels = graph.originals[constant] * 255.0
        if float(levels.max() - levels.min()) > _MEANS_APART or op.output not in graph.grids:
            continue
        level = float(((levels.max() + levels.min()) / 2).round())
        graph.constants[constant] = torch.full_like(graph.constants[constant], level / 255.0)
        if constant in graph.grids:
            like = graph.grids[constant]
            _put(like, 1.0 / 255.0, float(like.low if level >= 0 else like.high))
        out = graph.grids[op.output]
        _put(out, 1.0 / 255.0, float(out.low - _SHIFTED[op.kind] * level))


def share_grids(graph: Graph) -> None:
    """Let what a concatenation joins lie on its output's grid, and gates on 1/256, as TFLite's kernels do.

    Otherwise every input is rounded twice.  An input that others read too keeps its grid where that is much finer.
    A gate on 1/256 less a half keeps its integers.
    """
    for op in graph.ops:
        there = graph.grids.get(op.output)
        if there is None or there.fixed or there.scale.numel() > 1 or there.high - there.low > 255:
            continue
        if op.kind in _GATES:
            _put(there, 1.0 / 256.0, float(there.low))
        for name in op.inputs if op.kind in _JOINED else ():
            here = graph.grids.get(name)
            if here is None or here.fixed or here.scale.numel() > 1 or (here.low, here.high) != (there.low, there.high):
                continue
            if len(graph.consumers(name)) == 1 or _alike(here.scale, there.scale):
                graph.grids[name] = there


def _spans_an_image(grid: Grid) -> bool:
    """Whether a grid reaches over most of [0, 1] and not far beyond."""
    low, high = grid.range
    return -0.5 < low < 0.1 and 0.9 < high < 1.5


def exact_constants(graph: Graph) -> None:
    """Let sums and products with one constant keep their input's integers.

    Where the output's grid is shared with others (a concatenation), the input takes its grid from there.  A tensor
    that is only put on another grid takes that one from the start; constants of whole steps get these steps.
    """
    for op in graph.ops:
        there = graph.grids.get(op.output)
        if there is not None:
            _exact_constant(graph, op, there)


def _exact_constant(graph: Graph, op: Op, there: Grid) -> None:
    name = _constant_of(graph, op)
    if name is not None and graph.constants[name].numel() > 1:
        if name in graph.grids:
            _whole_steps(graph.grids[name], graph.originals[name])
        return
    source = next((i for i in op.inputs if i != name), None)
    here = graph.grids.get(source) if source is not None else None
    if here is None or here is there or there.fixed or here.scale.numel() > 1 or here.high - here.low > 255:
        return
    if op.kind in _REQUANTIZED:
        _tie(graph, op, here, there, 1.0, 0.0)
    elif name is not None:
        value = float(graph.originals[name])
        if op.kind in _SCALED and value > 0:
            _tie(graph, op, here, there, value, 0.0)
        elif op.kind in _SHIFTED and (op.kind not in ("SUB", "Sub") or op.inputs[0] == source):
            _tie(graph, op, here, there, 1.0, value * _SHIFTED[op.kind])


def _alike(one: Tensor, other: Tensor) -> bool:
    return _ALIKE <= float(one / other) <= 1 / _ALIKE


def _whole_steps(grid: Grid, values: Tensor) -> None:
    """Put a constant on a grid that holds all its values, if they are multiples of the smallest."""
    unit = float(values.abs()[values != 0].min()) if bool((values != 0).any()) else 0.0
    zero = max(grid.low, 0)
    if unit > 0 and grid.scale.numel() == 1:
        steps = values / unit
        if float((steps - steps.round()).abs().max()) < 1e-4 and float(steps.abs().max()) <= grid.high - zero:
            _put(grid, unit, float(zero))


def _tie(graph: Graph, op: Op, here: Grid, there: Grid, factor: float, shift: float) -> None:
    """real_out = factor * real_in + shift on equal integers; the shift must be whole steps."""
    shared = sum(g is there for g in graph.grids.values()) > 1
    if shared and not here.fixed and sum(g is here for g in graph.grids.values()) == 1:
        source = next(name for name, grid in graph.grids.items() if grid is here)
        if len(graph.consumers(source)) > 1 and not _alike(there.scale / factor, here.scale):
            return  # others read it too, and would lose by it
        steps = round(shift / float(there.scale))
        here.scale, here.zero = there.scale / factor, there.zero + steps
        here.follows, here.factor = there, 1.0 / factor
    elif not shared:
        scale = here.scale * factor
        whole = shift / float(scale)
        if abs(whole - round(whole)) > 1e-3 and here.fixed is False:
            return
        there.scale, there.zero = scale, here.zero - round(whole)
        if here.fixed:
            there.fixed = True
        else:
            there.follows, there.factor = here, factor


def _constant_of(graph: Graph, op: Op) -> str | None:
    """The only constant among two inputs."""
    known = [i for i in op.inputs if i in graph.constants]
    return known[0] if len(known) == 1 and len(op.inputs) == 2 else None


def _put(grid: Grid, scale: float, zero: float) -> None:
    grid.scale, grid.zero = torch.tensor(scale, dtype=torch.float32), torch.tensor(zero)
    grid.fixed = True
