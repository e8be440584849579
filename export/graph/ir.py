"""Operators on named tensors, each tensor with the grid of integers that the file stores it on.

The graph is read from a finished file, so what it computes is what the runtime computes up to the rounding of
single products; nothing is modelled from memory.  Without grids it computes the float network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from export.errors import ExportError

__all__ = ["Graph", "Grid", "Linear", "Op"]

_LEFT_OUT = ("Relu", "Clip")
"""Operators that onnxruntime's quantizer drops where the output's grid clips."""


@dataclass(eq=False)
class Grid:
    """Integers and the real numbers they stand for: real = scale * (integer - zero).

    Jacob et al., arXiv:1712.05877, equation 1.  Tensors that must share their scale share the object.
    """

    scale: Tensor
    """A number, or one for each channel of ``axis``."""
    zero: Tensor
    """Of the same shape."""
    low: int
    high: int
    axis: int | None = None
    fixed: bool = False
    """Not to be changed: the runtime prescribes it (a sigmoid's output in TFLite), or it is exact already."""
    follows: Grid | None = None
    """The grid whose integers this one's are, times a factor and moved: a product or sum with a constant."""
    factor: float = 1.0
    """This scale over that of the grid it follows."""

    def integers(self, x: Tensor) -> Tensor:
        """The nearest integers, saturated, as floats."""
        scale, zero = self._like(x)
        return torch.clamp(torch.round(x / scale) + zero, self.low, self.high)

    def snap(self, x: Tensor) -> Tensor:
        """The nearest real numbers of the grid; gradients pass inside its range, and reach the scale.

        Esser et al., arXiv:1902.08153, equations 2 and 3 (learned step size).
        """
        scale, zero = self._like(x)
        snapped: Tensor = _Snap.apply(x, scale, zero, self.low, self.high)  # type: ignore[no-untyped-call]
        return snapped

    def _like(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.axis is None:
            return self.scale, self.zero
        shape = [1] * x.dim()
        shape[self.axis] = -1
        return self.scale.reshape(shape), self.zero.reshape(shape)

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and largest real number, of a grid of one scale."""
        scale, zero = float(self.scale), float(self.zero)
        return (self.low - zero) * scale, (self.high - zero) * scale


class _Snap(torch.autograd.Function):
    """Rounding to a grid in few passes over memory: it is most of the cost of training."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: Tensor, low: int, high: int) -> Tensor:
        y = torch.div(x, scale)
        if zero.dim():
            y = torch.minimum(torch.maximum(y.round_(), low - zero), high - zero)
        else:
            y.round_().clamp_(low - float(zero), high - float(zero))
        y.mul_(scale)
        ctx.save_for_backward(x, y, scale)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, y, scale = ctx.saved_tensors
        error = y - x
        inside = error.abs() <= scale * 0.5001
        for_x = gradient * inside if ctx.needs_input_grad[0] else None
        for_scale = None
        if ctx.needs_input_grad[1]:
            for_scale = (torch.where(inside, error, y).mul_(gradient)).sum_to_size(scale.shape) / scale
        return for_x, for_scale, None, None, None


@dataclass(frozen=True)
class Linear:
    """The parts of an operator that is linear in a constant weight: a convolution or a matrix product."""

    weight: str
    bias: str | None
    axis: int
    """Of the weight's output channels."""
    apply: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    """(input, weight, bias) to the output before the operator's own activation."""
    patches: Callable[[Tensor], Tensor]
    """The input as (groups, fan-in, positions)."""
    rows: Callable[[Tensor], Tensor]
    """The weight as (groups, outputs of a group, fan-in)."""
    weight_of: Callable[[Tensor], Tensor]
    """Rows back to the weight."""
    outputs: Callable[[Tensor], Tensor]
    """The output as (groups, outputs of a group, positions)."""


@dataclass(frozen=True, eq=False)
class Op:
    """One operator with one output."""

    kind: str
    """As the file spells it."""
    inputs: tuple[str, ...]
    output: str
    run: Callable[..., Tensor]
    linear: Linear | None = None
    pointwise: bool = False
    """Each output value depends on the input values of its own place only."""


@dataclass(eq=False)
class Graph:
    """A file as operators in order of execution."""

    input: str
    output: str
    ops: list[Op]
    constants: dict[str, Tensor]
    """Real values; those with a grid are put on it when the graph runs quantized."""
    grids: dict[str, Grid]
    layout: str = "nchw"
    """Of images at its ends, and of every 4-D tensor inside: ``nhwc`` or ``nchw``."""
    gives_images: bool = True
    """Whether the output is an image in [0, 1]."""
    any_size: bool = False
    """Whether inputs of other sizes than the declared one run."""
    originals: dict[str, Tensor] = field(default_factory=dict)
    """The constants of the float network, with which the graph runs unquantized; tuning leaves them alone."""
    _last: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.originals = dict(self.constants)
        self._note_last_reads()

    def _note_last_reads(self) -> None:
        self._last = {name: position for position, op in enumerate(self.ops) for name in op.inputs}

    def run(self, images: Tensor, quantized: bool = True) -> Tensor:
        """The network's output for inputs (N, H, W, C) or (N, C, H, W), as the layout says."""
        values: dict[str, Tensor] = {}
        for _ in self.walk(values, images, quantized):
            pass
        return values[self.output]

    def walk(self, values: dict[str, Tensor], images: Tensor, quantized: bool) -> Iterator[Op]:
        """Run operator by operator: each is yielded once its output is in ``values``; dead values are dropped."""
        values[self.input] = self.snap(self.input, images) if quantized else images
        return self._steps(values, self.snapped_constants() if quantized else self.originals, quantized)

    def _steps(self, values: dict[str, Tensor], constants: Mapping[str, Tensor], quantized: bool) -> Iterator[Op]:
        for position, op in enumerate(self.ops):
            out = op.run(*(values[n] if n in values else constants[n] for n in op.inputs))
            values[op.output] = self.snap(op.output, out) if quantized else out
            yield op
            for name in op.inputs:
                if self._last[name] == position and name != self.output:
                    values.pop(name, None)

    def snap(self, name: str, value: Tensor) -> Tensor:
        """A tensor's value on its grid, if it has one."""
        grid = self.grids.get(name)
        return value if grid is None else grid.snap(value)

    def snapped_constants(self) -> Mapping[str, Tensor]:
        """The constants on their grids."""
        return {name: self.snap(name, value) for name, value in self.constants.items()}

    def adopt(self, other: Graph) -> None:
        """Take the values of constants from the float file that this one was made of.

        And its activations that the quantizer left out, because the grid behind them ends where they do.

        Raises:
            ExportError: the files do not belong together.
        """
        self._restore_activations(other)
        wanted = [op.linear.weight for op in self.ops if op.linear is not None and op.linear.weight in self.grids]
        missing = [n for n in wanted if n not in other.constants or self._shape(n) != other._shape(n)]
        if missing:
            raise ExportError(f"the float file has no constant {missing[0]!r} of shape {self._shape(missing[0])}")
        for name in self.constants:
            if name in other.constants and self._shape(name) == other._shape(name):
                self.constants[name] = other.constants[name]
        theirs = {op.output: op for op in other.ops}
        for op in self.ops:  # a bias of several layers: one for each here
            twin = theirs.get(op.output)
            if twin is not None and twin.kind == op.kind:
                for mine, their in zip(op.inputs, twin.inputs, strict=False):
                    if mine in self.constants and mine not in other.constants and their in other.constants:
                        self.constants[mine] = other.constants[their].reshape(self._shape(mine))
        self.originals = dict(self.constants)

    def _restore_activations(self, other: Graph) -> None:
        made_by = {op.output: op for op in other.ops}
        known = {op.output for op in self.ops}
        ops: list[Op] = []
        for op in self.ops:
            left_out: list[Op] = []
            twin = made_by.get(op.output)
            while twin is not None and twin.kind in _LEFT_OUT and twin.kind != op.kind:
                if twin.inputs[0] in known or any(name not in other.constants for name in twin.inputs[1:]):
                    break
                left_out.insert(0, twin)
                twin = made_by.get(twin.inputs[0])
            ops.append(replace(op, output=left_out[0].inputs[0]) if left_out else op)
            for activation in left_out:
                ops.append(activation)
                self.constants |= {name: other.constants[name] for name in activation.inputs[1:]}
        self.ops = ops
        self._note_last_reads()

    def _shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.constants[name].shape)

    @property
    def layers(self) -> list[Linear]:
        """The layers whose weights are on a grid, in order of execution; a weight that is used twice counts once."""
        found: dict[str, Linear] = {}
        for op in self.ops:
            if op.linear is not None and op.linear.weight in self.grids:
                found.setdefault(op.linear.weight, op.linear)
        return list(found.values())

    def consumers(self, name: str) -> Sequence[Op]:
        """The operators that read a tensor."""
        return [op for op in self.ops if name in op.inputs]

    def activations(self) -> dict[Grid, list[str]]:
        """The grids of tensors that depend on the input, each with its tensors."""
        found: dict[Grid, list[str]] = {}
        for name in (self.input, *(op.output for op in self.ops)):
            if name in self.grids:
                found.setdefault(self.grids[name], []).append(name)
        return found
