"""What ONNX's operators compute, in torch: functions of single values, and along axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, reduce
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor

from export.graph.onnx_layers import LAYERS, Node, Run
from export.graph.onnx_moves import MOVES, integers_of

__all__ = ["POINTWISE", "attribute", "build"]

_UNARY: Mapping[str, Run] = {
    "Abs": torch.abs,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "HardSwish": F.hardswish,
    "Identity": lambda x: x,
    "Log": torch.log,
    "Mish": F.mish,
    "Neg": torch.neg,
    "QuantizeLinear": lambda x, *parameters: x,
    "Reciprocal": torch.reciprocal,
    "Relu": F.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Softplus": F.softplus,
    "Sqrt": torch.sqrt,
    "Tanh": torch.tanh,
}


def _divide(a: Tensor, b: Tensor) -> Tensor:
    return torch.div(a, b) if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


_BINARY: Mapping[str, Run] = {
    "Add": torch.add,
    "Div": _divide,
    "Mul": torch.mul,
    "PRelu": lambda x, slope: torch.where(x >= 0, x, slope * x),
    "Pow": lambda x, exponent: torch.pow(x, exponent).to(x.dtype),
    "Sub": torch.sub,
}
_LOGIC: Mapping[str, Run] = {
    "And": torch.logical_and,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Not": torch.logical_not,
    "Or": torch.logical_or,
    "Where": torch.where,
}
_WITH_SETTINGS: Mapping[str, Callable[[Node], Run]] = {
    "Clip": lambda node: lambda x, low=None, high=None: torch.clamp(x, low, high),
    "Elu": lambda node: partial(F.elu, alpha=node.get("alpha", 1.0)),
    "Gelu": lambda node: partial(F.gelu, approximate=node.get("approximate", "none")),
    "HardSigmoid": lambda node: lambda x: (node.get("alpha", 0.2) * x + node.get("beta", 0.5)).clamp(0, 1),
    "LeakyRelu": lambda node: partial(F.leaky_relu, negative_slope=node.get("alpha", 0.01)),
    "Max": lambda node: lambda *given: reduce(torch.maximum, given),
    "Min": lambda node: lambda *given: reduce(torch.minimum, given),
    "Sum": lambda node: lambda *given: reduce(torch.add, given),
}
POINTWISE = frozenset({*_UNARY, *_BINARY, *_WITH_SETTINGS})
_TYPES = {1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64}
_TYPES |= {9: torch.bool, 10: torch.float16, 11: torch.float64}


def build(node: Node, part: int) -> Run | None:
    """What an operator computes of its inputs; None where this reader does not know it.

    Args:
        node: the operator.
        part: which of its outputs.
    """
    simple = _UNARY.get(node.kind) or _BINARY.get(node.kind) or _LOGIC.get(node.kind)
    if simple is not None:
        return simple
    if node.kind in _WITH_SETTINGS:
        return _WITH_SETTINGS[node.kind](node)
    maker = LAYERS.get(node.kind) or MOVES.get(node.kind) or _MAKERS.get(node.kind)
    return None if maker is None else maker(node, part)


def _cast(node: Node, part: int) -> Run | None:
    kind = _TYPES.get(node.get("to", 1))
    return None if kind is None else lambda x: x.to(kind)


def _reduction(function: Callable[..., Tensor], node: Node, part: int) -> Run:
    keep = bool(node.get("keepdims", 1))

    def run(x: Tensor, axes: Tensor | None = None) -> Tensor:
        over = integers_of(node, "axes", axes)
        if not over and node.get("noop_with_empty_axes", 0):
            return x
        return function(x, dim=tuple(over or range(x.dim())), keepdim=keep)

    return run


def _softmax(function: Callable[..., Tensor], node: Node, part: int) -> Run | None:
    return None if node.opset < 13 else lambda x: function(x, node.get("axis", -1))


def _top(node: Node, part: int) -> Run:
    axis, largest = node.get("axis", -1), bool(node.get("largest", 1))

    def run(x: Tensor, count: Tensor) -> Tensor:
        values, places = torch.sort(x, stable=True, dim=axis, descending=largest)
        return (values, places)[part].narrow(axis, 0, int(count))

    return run


def _best(function: Callable[..., Tensor], node: Node, part: int) -> Run:
    return lambda x: function(x, node.get("axis", 0), bool(node.get("keepdims", 1)))


_MAKERS: Mapping[str, Callable[[Node, int], Run | None]] = {
    "ArgMax": partial(_best, torch.argmax),
    "ArgMin": partial(_best, torch.argmin),
    "Cast": _cast,
    "Einsum": lambda node, part: partial(torch.einsum, node.get("equation", "")),
    "LogSoftmax": partial(_softmax, torch.log_softmax),
    "ReduceL2": partial(_reduction, torch.linalg.vector_norm),
    "ReduceMax": partial(_reduction, torch.amax),
    "ReduceMean": partial(_reduction, torch.mean),
    "ReduceMin": partial(_reduction, torch.amin),
    "ReduceSum": partial(_reduction, torch.sum),
    "Softmax": partial(_softmax, torch.softmax),
    "TopK": _top,
}


def attribute(value: Any) -> Any:
    """An attribute's value, in Python's and torch's types."""
    from onnx import TensorProto, numpy_helper

    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, TensorProto):
        return torch.from_numpy(numpy_helper.to_array(value).copy())
    return value
