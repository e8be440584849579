"""What ONNX's operators that build shapes and move values compute, in torch on tensors of any batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor

from export.graph.onnx_layers import Node, Run

__all__ = ["MOVES", "SAME_SCALE", "integers_of"]

SAME_SCALE = frozenset(
    {
        "AveragePool",
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "MaxPool",
        "Pad",
        "Reshape",
        "Resize",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)
"""Operators that move values, whose input and output runtimes like to have on one grid."""


def ints(x: Tensor | Sequence[int]) -> list[int]:
    """A tensor of whole numbers, or a sequence of them, as a list."""
    return [int(n) for n in (x.reshape(-1).tolist() if isinstance(x, Tensor) else x)]


def integers_of(node: Node, name: str, given: Tensor | None) -> list[int] | None:
    """Integers that are an input since some opset, and an attribute before."""
    if given is not None:
        return ints(given)
    found = node.get(name, None)
    return None if found is None else ints(found)


def _reshape(node: Node, part: int) -> Run:
    declared, fixed = node.shape(0), node.inputs[1] in node.constants

    def run(x: Tensor, shape: Tensor) -> Tensor:
        asked = ints(shape)
        copied = not node.get("allowzero", 0)
        wanted = [x.shape[k] if n == 0 and copied else n for k, n in enumerate(asked)]
        if wanted and wanted[0] > 0 and asked[0] != 0:
            size = math.prod(wanted)
            if size > 0 and size != x.numel():
                wanted[0] = wanted[0] * x.numel() // size
            elif size < 0 and (fixed or wanted[0] == 1):
                wanted[0] *= _batch(x, declared)
        return x.reshape(wanted)

    return run


def _batch(x: Tensor, declared: Sequence[int | None] | None) -> int:
    """How many times more values there are than the file declares: its batch is one."""
    if not declared or x.dim() != len(declared):
        return 1
    known = [n for n in declared if n is not None]
    if len(known) == len(declared):
        return max(x.numel() // max(math.prod(known), 1), 1)
    return x.shape[0] // declared[0] if declared[0] else 1


def _expand(node: Node, part: int) -> Run:
    return lambda x, shape: x.expand(_common(x.shape, ints(shape)))


def _common(a: Sequence[int], b: Sequence[int]) -> list[int]:
    """The shape that two shapes are stretched to."""
    rank = max(len(a), len(b))
    pairs = zip([1] * (rank - len(a)) + list(a), [1] * (rank - len(b)) + list(b), strict=True)
    return [n if m == 1 else m for n, m in pairs]


def _concat(node: Node, part: int) -> Run:
    axis = node.get("axis", 0)

    def run(*parts: Tensor) -> Tensor:
        if axis in (0, -parts[0].dim()):
            return torch.cat(parts)
        count = max(p.shape[0] for p in parts)
        return torch.cat([p.expand(count, *p.shape[1:]) for p in parts], axis)

    return run


def _split(node: Node, part: int) -> Run:
    axis = node.get("axis", 0)

    def run(x: Tensor, sizes: Tensor | None = None) -> Tensor:
        given = integers_of(node, "split", sizes)
        return torch.split(x, given or -(-x.shape[axis] // node.outputs), axis)[part]

    return run


def _slice(node: Node, part: int) -> Run:
    declared = node.shape(0)

    def run(
        x: Tensor,
        starts: Tensor | None = None,
        ends: Tensor | None = None,
        axes: Tensor | None = None,
        steps: Tensor | None = None,
    ) -> Tensor:
        first, last = integers_of(node, "starts", starts) or [], integers_of(node, "ends", ends) or []
        over = integers_of(node, "axes", axes) or list(range(len(first)))
        for axis, low, high, step in zip(
            over, first, last, integers_of(node, "steps", steps) or [1] * len(first), strict=True
        ):
            whole = axis == 0 and x.dim() > 1 and (low, high) == (0, 1) and declared is not None and declared[0] == 1
            index = range(x.shape[axis])[low:high:step]
            if whole or (len(index) == x.shape[axis] and step == 1):
                continue
            if step == 1:
                x = x.narrow(axis, index.start, len(index))
            else:
                x = x.index_select(axis, torch.tensor(list(index), dtype=torch.long))
        return x

    return run


def _gather(node: Node, part: int) -> Run:
    def run(x: Tensor, index: Tensor) -> Tensor:
        axis = node.get("axis", 0) % x.dim()
        flat = index.reshape(-1).long()
        taken = x.index_select(axis, torch.where(flat < 0, flat + x.shape[axis], flat))
        return taken.reshape([*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]])

    return run


def _squeeze(node: Node, part: int) -> Run:
    declared = node.shape(0)

    def run(x: Tensor, axes: Tensor | None = None) -> Tensor:
        given = integers_of(node, "axes", axes)
        if given is None:
            given = [k for k, n in enumerate(declared or x.shape) if n == 1]
        return x.squeeze(tuple(given))

    return run


def _unsqueeze(node: Node, part: int) -> Run:
    def run(x: Tensor, axes: Tensor | None = None) -> Tensor:
        given = integers_of(node, "axes", axes) or []
        for axis in sorted(a % (x.dim() + len(given)) for a in given):
            x = x.unsqueeze(axis)
        return x

    return run


def _flatten(node: Node, part: int) -> Run:
    def run(x: Tensor) -> Tensor:
        axis = node.get("axis", 1)
        return x.reshape(math.prod(x.shape[:axis]), -1)

    return run


def _shape(node: Node, part: int) -> Run:
    return lambda x: torch.tensor(x.shape[node.get("start", 0) : node.get("end", None)], dtype=torch.int64)


def _filled(node: Node, part: int) -> Run:
    value = node.get("value", None)
    like = torch.zeros(1) if value is None else torch.as_tensor(value)
    return lambda shape: torch.full(ints(shape), like.reshape(()).item(), dtype=like.dtype)


def _range(node: Node, part: int) -> Run:
    return lambda start, limit, delta: torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


def _pad(node: Node, part: int) -> Run | None:
    mode = node.get("mode", "constant")

    def run(x: Tensor, pads: Tensor | None = None, value: Tensor | None = None, axes: Tensor | None = None) -> Tensor:
        amounts = integers_of(node, "pads", pads) or []
        over = [a % x.dim() for a in (ints(axes) if axes is not None else range(x.dim()))]
        pairs = {axis: (amounts[k], amounts[k + len(over)]) for k, axis in enumerate(over)}
        if mode == "constant":
            flat = [n for axis in reversed(range(x.dim())) for n in pairs.get(axis, (0, 0))]
            return F.pad(x, flat, value=float(value) if value is not None else node.get("value", 0.0))
        for axis, (before, after) in pairs.items():
            if before or after:
                x = x.index_select(axis, _border(mode, x.shape[axis], before, after))
        return x

    return run


def _border(mode: str, side: int, before: int, after: int) -> Tensor:
    """Which places along an axis a padded one shows."""
    index = torch.arange(-before, side + after)
    if mode == "edge":
        return index.clamp(0, side - 1)
    if mode == "wrap":
        return index % side
    period = max(2 * side - 2, 1)
    return (side - 1) - ((index % period) - (side - 1)).abs()


def _depth_to_space(node: Node, part: int) -> Run:
    def run(x: Tensor) -> Tensor:
        block = node.get("blocksize", 1)
        if node.get("mode", "DCR") == "CRD":
            return F.pixel_shuffle(x, block)
        count, depth, height, width = x.shape
        x = x.reshape(count, block, block, depth // block**2, height, width).permute(0, 3, 4, 1, 5, 2)
        return x.reshape(count, depth // block**2, height * block, width * block)

    return run


def _space_to_depth(node: Node, part: int) -> Run:
    def run(x: Tensor) -> Tensor:
        block = node.get("blocksize", 1)
        count, depth, height, width = x.shape
        x = x.reshape(count, depth, height // block, block, width // block, block).permute(0, 3, 5, 1, 2, 4)
        return x.reshape(count, depth * block**2, height // block, width // block)

    return run


MOVES: Mapping[str, Callable[[Node, int], Run | None]] = {
    "Concat": _concat,
    "ConstantOfShape": _filled,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": lambda node, part: lambda x, index: torch.gather(x, node.get("axis", 0), index),
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": lambda node, part: lambda x, times: x.repeat(ints(times)),
    "Transpose": lambda node, part: lambda x: x.permute(node.get("perm", list(range(x.dim()))[::-1])),
    "Unsqueeze": _unsqueeze,
}
"""(operator, which of its outputs) to what it computes; None where it is not known."""
