"""ONNX's layers with weights, windows or statistics, in torch on NCHW tensors of any batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor

from export.graph.ir import Linear

__all__ = ["LAYERS", "Node", "Run", "linear"]

Run = Callable[..., Tensor]


@dataclass(frozen=True)
class Node:
    """An operator as the file has it, its tensors named as in the graph."""

    kind: str
    attributes: Mapping[str, Any]
    inputs: tuple[str, ...]
    """Empty where an optional one is left out."""
    outputs: int
    shapes: Mapping[str, Sequence[int | None]]
    """Declared sides, None where open."""
    constants: Mapping[str, Tensor]
    opset: int

    def get(self, name: str, default: Any) -> Any:
        """An attribute."""
        return self.attributes.get(name, default)

    def has(self, position: int) -> bool:
        """Whether an input is given."""
        return position < len(self.inputs) and self.inputs[position] != ""

    def shape(self, position: int) -> list[int | None] | None:
        """Declared sides of an input."""
        found = self.shapes.get(self.inputs[position]) if self.has(position) else None
        return None if found is None else list(found)


def _padder(node: Node, kernel: Sequence[int], value: float) -> Callable[[Tensor], Tensor]:
    """The padding that ``pads`` and ``auto_pad`` ask for."""
    stride, dilation = node.get("strides", [1, 1]), node.get("dilations", [1, 1])
    mode, pads = node.get("auto_pad", "NOTSET"), node.get("pads", [0, 0, 0, 0])

    def run(x: Tensor) -> Tensor:
        flat = [pads[1], pads[3], pads[0], pads[2]]
        if mode.startswith("SAME"):
            flat = []
            for axis in (1, 0):
                side = x.shape[2 + axis]
                reach = (-(-side // stride[axis]) - 1) * stride[axis] + (kernel[axis] - 1) * dilation[axis] + 1
                total = max(reach - side, 0)
                less, more = total // 2, total - total // 2
                flat += [less, more] if mode == "SAME_UPPER" else [more, less]
        elif mode == "VALID":
            flat = [0, 0, 0, 0]
        return F.pad(x, flat, value=value) if any(flat) else x

    return run


def linear(node: Node) -> Linear | None:
    """The linear part of a convolution or matrix product with a constant weight."""
    shape = node.shape(1)
    if shape is None or any(n is None for n in shape):
        return None
    sides = [int(n) for n in shape if n is not None]
    weight, bias = node.inputs[1], node.inputs[2] if node.has(2) else None
    if node.kind == "Conv":
        return _convolution(node, weight, bias, sides) if len(sides) == 4 else None
    if len(sides) != 2 or node.inputs[1] not in node.constants:
        return None
    if node.kind == "MatMul":
        return _product(weight, None, sides, False, lambda x, w, b: torch.matmul(x, w))
    plain = node.get("alpha", 1.0) == 1.0 and node.get("beta", 1.0) == 1.0 and not node.get("transA", 0)
    flipped = bool(node.get("transB", 0))
    outputs = sides[0 if flipped else 1]
    if node.kind != "Gemm" or not plain or (bias is not None and node.shape(2) != [outputs]):
        return None
    return _product(weight, bias, sides, flipped, lambda x, w, b: F.linear(x, w if flipped else w.t(), b))


def _product(weight: str, bias: str | None, sides: Sequence[int], flipped: bool, apply: Run) -> Linear:
    outputs, fan = sides if flipped else (sides[1], sides[0])
    turn: Callable[[Tensor], Tensor] = (lambda w: w) if flipped else (lambda w: w.t())
    return Linear(
        weight,
        bias,
        0 if flipped else 1,
        apply,
        patches=lambda x: x.reshape(-1, fan).t()[None],
        rows=lambda w: turn(w)[None],
        weight_of=lambda rows: turn(rows[0]).contiguous(),
        outputs=lambda y: y.reshape(-1, outputs).t()[None],
    )


def _convolution(node: Node, weight: str, bias: str | None, sides: Sequence[int]) -> Linear:
    kernel, groups = sides[2:], int(node.get("group", 1))
    window = {"dilation": tuple(node.get("dilations", [1, 1])), "stride": tuple(node.get("strides", [1, 1]))}
    pad = _padder(node, kernel, 0.0)

    def convolve(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        return F.conv2d(pad(x), w, b, groups=groups, **window)

    def patches(x: Tensor) -> Tensor:
        columns = F.unfold(pad(x), tuple(kernel), **window)  # (N, C*k*k, L)
        count, fan, places = columns.shape
        parts = columns.reshape(count, groups, fan // groups, places)
        return parts.permute(1, 2, 0, 3).reshape(groups, fan // groups, -1)

    def outputs(y: Tensor) -> Tensor:
        count, channels = y.shape[:2]
        parts = y.reshape(count, groups, channels // groups, -1)
        return parts.permute(1, 2, 0, 3).reshape(groups, channels // groups, -1)

    return Linear(
        weight,
        bias,
        0,
        convolve,
        patches,
        rows=lambda w: w.reshape(groups, sides[0] // groups, -1),
        weight_of=lambda rows: rows.reshape(tuple(sides)).contiguous(),
        outputs=outputs,
    )


def _conv(node: Node, part: int) -> Run | None:
    found = linear(node)
    return None if found is None else lambda x, w, b=None: found.apply(x, w, b)


def _transposed(node: Node, part: int) -> Run | None:
    pads = node.get("pads", [0, 0, 0, 0])
    shape = node.shape(1)
    if node.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or "output_shape" in node.attributes:
        return None
    if shape is None or len(shape) != 4:
        return None
    settings = {
        "stride": node.get("strides", [1, 1]),
        "output_padding": node.get("output_padding", [0, 0]),
        "groups": node.get("group", 1),
        "dilation": node.get("dilations", [1, 1]),
    }

    def run(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        y = F.conv_transpose2d(x, w, b, **settings)
        return y[:, :, pads[0] : y.shape[2] - pads[2], pads[1] : y.shape[3] - pads[3]]

    return run


def _gemm(node: Node, part: int) -> Run:
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)

    def run(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        y: Tensor = alpha * ((a.t() if node.get("transA", 0) else a) @ (b.t() if node.get("transB", 0) else b))
        return y if c is None else y + beta * c

    return run


def _pool(kind: str, node: Node, part: int) -> Run | None:
    kernel, stride = node.get("kernel_shape", []), node.get("strides", [1, 1])
    dilation, ceil = node.get("dilations", [1, 1]), bool(node.get("ceil_mode", 0))
    if len(kernel) != 2 or part or (kind == "AveragePool" and any(d != 1 for d in dilation)):
        return None

    if kind == "MaxPool":
        spread = _padder(node, kernel, float("-inf"))
        return lambda x: F.max_pool2d(spread(x), kernel, stride, 0, dilation, ceil)
    pad = _padder(node, kernel, 0.0)
    count = _padder(node, kernel, float(node.get("count_include_pad", 0)))
    total = partial(F.avg_pool2d, kernel_size=kernel, stride=stride, ceil_mode=ceil, divisor_override=1)
    return lambda x: total(pad(x)) / total(count(torch.ones_like(x[:1, :1])))


def _layer_norm(node: Node, part: int) -> Run | None:
    axis, epsilon = node.get("axis", -1), node.get("epsilon", 1e-5)
    if part:
        return None
    return lambda x, w, b=None: F.layer_norm(x, x.shape[axis:], w.reshape(x.shape[axis:]), b, epsilon)


def _batch_norm(node: Node, part: int) -> Run | None:
    epsilon = node.get("epsilon", 1e-5)
    if part or node.get("training_mode", 0):
        return None
    return lambda x, w, b, mean, var: F.batch_norm(x, mean, var, w, b, False, 0.0, epsilon)


def _instance_norm(node: Node, part: int) -> Run:
    return lambda x, w, b: F.instance_norm(x, weight=w, bias=b, eps=node.get("epsilon", 1e-5))


def _resize(node: Node, part: int) -> Run | None:
    mode, place = node.get("mode", "nearest"), node.get("coordinate_transformation_mode", "half_pixel")
    torch_mode = _resize_mode(node, mode, place)
    if torch_mode is None or node.get("antialias", 0) or node.get("axes", [0, 1, 2, 3][-2:]) not in ([2, 3], [-2, -1]):
        return None
    if node.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        return None
    corners = None if torch_mode.startswith("nearest") else place == "align_corners"

    def run(x: Tensor, roi: Tensor | None = None, scales: Tensor | None = None, sizes: Tensor | None = None) -> Tensor:
        if sizes is not None and sizes.numel():
            size = tuple(int(n) for n in sizes[-2:])
            return F.interpolate(x, size, mode=torch_mode, align_corners=corners)
        assert scales is not None
        factors = tuple(float(s) for s in scales[-2:])
        return F.interpolate(
            x, scale_factor=factors, mode=torch_mode, align_corners=corners, recompute_scale_factor=False
        )

    return run


def _resize_mode(node: Node, mode: str, place: str) -> str | None:
    """Torch's name for the same interpolation of images."""
    if mode == "nearest":
        rounding = node.get("nearest_mode", "round_prefer_floor")
        if (place, rounding) == ("asymmetric", "floor"):
            return "nearest"
        return (
            "nearest-exact" if place in ("half_pixel", "pytorch_half_pixel") and rounding.startswith("round") else None
        )
    if place not in ("half_pixel", "pytorch_half_pixel", "align_corners") or node.get("exclude_outside", 0):
        return None
    if mode == "cubic":
        return "bicubic" if abs(node.get("cubic_coeff_a", -0.75) + 0.75) < 1e-6 else None
    return "bilinear" if mode == "linear" else None


LAYERS: Mapping[str, Callable[[Node, int], Run | None]] = {
    "AveragePool": partial(_pool, "AveragePool"),
    "BatchNormalization": _batch_norm,
    "Conv": _conv,
    "ConvTranspose": _transposed,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda node, part: lambda x: x.mean(tuple(range(2, x.dim())), keepdim=True),
    "GlobalMaxPool": lambda node, part: lambda x: x.amax(tuple(range(2, x.dim())), keepdim=True),
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "MatMul": lambda node, part: torch.matmul,
    "MaxPool": partial(_pool, "MaxPool"),
    "Resize": _resize,
}
"""(operator, which of its outputs) to what it computes; None where it is not known."""
