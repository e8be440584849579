"""What TFLite's operators that move values compute, in torch on tensors of any batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor

from export.graph.tflite_layers import Run, ints

__all__ = ["MOVES"]


def _reshape(o: Any, names: Sequence[str], shapes: Any, part: int) -> Run:
    declared = list(shapes[names[0]])
    target = list(o.newShape) if o is not None and o.newShape is not None else None

    def run(x: Tensor, shape: Tensor | None = None) -> Tensor:
        wanted = ints(shape) if shape is not None else [int(n) for n in target or ()]
        times = x.numel() // max(math.prod(declared), 1)
        if times > 1 and wanted and wanted[0] > 0:  # the batch is outermost, alone or with others
            wanted[0] *= times
        return x.reshape(wanted)

    return run


def _depth_to_space(o: Any, names: Sequence[str], shapes: Any, part: int) -> Run:
    def run(x: Tensor) -> Tensor:
        count, height, width, depth = x.shape
        block = o.blockSize
        x = x.reshape(count, height, width, block, block, depth // block**2).permute(0, 1, 3, 2, 4, 5)
        return x.reshape(count, height * block, width * block, depth // block**2)

    return run


def _space_to_depth(o: Any, names: Sequence[str], shapes: Any, part: int) -> Run:
    def run(x: Tensor) -> Tensor:
        count, height, width, depth = x.shape
        block = o.blockSize
        x = x.reshape(count, height // block, block, width // block, block, depth).permute(0, 1, 3, 2, 4, 5)
        return x.reshape(count, height // block, width // block, depth * block**2)

    return run


def _slice(o: Any, names: Sequence[str], shapes: Any, part: int) -> Run:
    def run(x: Tensor, begin: Tensor, size: Tensor) -> Tensor:
        for axis, (first, count) in enumerate(zip(ints(begin), ints(size), strict=True)):
            whole = first == 0 and count in (-1, shapes[names[0]][axis])
            x = x if whole else x.narrow(axis, first, x.shape[axis] - first if count == -1 else count)
        return x

    return run


def _strided_slice(o: Any, names: Sequence[str], shapes: Any, part: int) -> Run | None:
    if o.ellipsisMask or o.newAxisMask:
        return None
    declared = shapes[names[0]]

    def run(x: Tensor, begin: Tensor, end: Tensor, strides: Tensor) -> Tensor:
        dropped = []
        for axis, (first, last, step) in enumerate(zip(ints(begin), ints(end), ints(strides), strict=True)):
            side = x.shape[axis]
            start = None if o.beginMask >> axis & 1 else first
            batch = axis == 0 and first == 0 and len(declared) > 1 and declared[0] == 1
            stop = None if o.endMask >> axis & 1 or batch else last
            if o.shrinkAxisMask >> axis & 1:
                start, stop = first, first + 1 if first != -1 else None
                dropped.append(axis)
            index = range(side)[start:stop:step]
            whole = len(index) == side and step == 1
            x = x if whole else x.index_select(axis, torch.tensor(list(index), dtype=torch.long))
        for axis in reversed(dropped):
            x = x.squeeze(axis)
        return x

    return run


def _concat(o: Any, names: Sequence[str], shapes: Any, part: int) -> Run | None:
    if o.fusedActivationFunction:  # LiteRT ignores it
        return None

    def run(*parts: Tensor) -> Tensor:
        if o.axis in (0, -parts[0].dim()):
            return torch.cat(parts)
        count = max(p.shape[0] for p in parts)
        return torch.cat([p.expand(count, *p.shape[1:]) for p in parts], o.axis)

    return run


def _pack(axis: int) -> Run:
    def run(*parts: Tensor) -> Tensor:
        count = max(p.shape[0] for p in parts)
        return torch.stack([p.expand(count, *p.shape[1:]) for p in parts], axis)

    return run


def _split(o: Any, names: Sequence[str], shapes: Any, part: int) -> Run:
    return lambda axis, x: torch.chunk(x, o.numSplits, int(axis))[part]


def _gather(o: Any, names: Sequence[str], shapes: Any, part: int) -> Run | None:
    def run(x: Tensor, index: Tensor) -> Tensor:
        axis = o.axis % x.dim()
        taken = x.index_select(axis, index.reshape(-1).long())
        return taken.reshape([*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]])

    return None if o.batchDims else run


def _pad(o: Any, names: Sequence[str], shapes: Any, part: int) -> Run:
    def run(x: Tensor, amounts: Tensor, value: Tensor | None = None) -> Tensor:
        flat = [int(n) for pair in reversed(amounts.tolist()) for n in pair]
        return F.pad(x, flat, value=0.0 if value is None else float(value))

    return run


def _mirror_pad(o: Any, names: Sequence[str], shapes: Any, part: int) -> Run:
    edge = int(o.mode == 1)  # symmetric: the outermost value is repeated

    def run(x: Tensor, amounts: Tensor) -> Tensor:
        for axis, (before, after) in enumerate(amounts.tolist()):
            side = x.shape[axis]
            places = [
                *range(before - edge, -edge, -1),
                *range(side),
                *range(side - 2 + edge, side - 2 + edge - after, -1),
            ]
            x = x if before == after == 0 else x.index_select(axis, torch.tensor(places))
        return x

    return run


def _squeeze(o: Any, names: Sequence[str], shapes: Any, part: int) -> Run:
    declared = list(shapes[names[0]])
    axes = [int(a) % len(declared) for a in o.squeezeDims] or [k for k, n in enumerate(declared) if n == 1 and k]
    return lambda x: x.squeeze(tuple(axes))


MOVES: Mapping[str, Callable[..., Run | None]] = {
    "BROADCAST_TO": lambda o, names, shapes, part: lambda x, shape: x + torch.zeros(ints(shape), dtype=x.dtype),
    "CONCATENATION": _concat,
    "DEPTH_TO_SPACE": _depth_to_space,
    "EXPAND_DIMS": lambda o, names, shapes, part: lambda x, axis: x.unsqueeze(int(axis)),
    "GATHER": _gather,
    "MIRROR_PAD": _mirror_pad,
    "PACK": lambda o, names, shapes, part: _pack(o.axis),
    "PAD": _pad,
    "PADV2": _pad,
    "RESHAPE": _reshape,
    "SLICE": _slice,
    "SPACE_TO_DEPTH": _space_to_depth,
    "SPLIT": _split,
    "SQUEEZE": _squeeze,
    "STRIDED_SLICE": _strided_slice,
    "TILE": lambda o, names, shapes, part: lambda x, times: x.repeat(ints(times)),
    "UNPACK": lambda o, names, shapes, part: lambda x: x.select(o.axis, part),
    "TRANSPOSE": lambda o, names, shapes, part: lambda x, order: x.permute(ints(order)),
}
"""By operator: its options, the names of its inputs, all shapes and which output it is, to what it computes."""
