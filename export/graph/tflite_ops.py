"""What TFLite's operators compute, in torch on NHWC tensors of any batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor

from export.graph.tflite_layers import ACTIVATIONS, LAYERS, Run, ints
from export.graph.tflite_moves import MOVES

__all__ = ["POINTWISE", "SAME_SCALE", "build"]

_UNARY: Mapping[str, Run] = {
    "ABS": torch.abs,
    "CEIL": torch.ceil,
    "COS": torch.cos,
    "DEQUANTIZE": lambda x: x,
    "ELU": F.elu,
    "EXP": torch.exp,
    "FLOOR": torch.floor,
    "HARD_SWISH": F.hardswish,
    "LOG": torch.log,
    "LOGISTIC": torch.sigmoid,
    "NEG": torch.neg,
    "QUANTIZE": lambda x: x,
    "RELU": F.relu,
    "RELU6": F.relu6,
    "RELU_0_TO_1": lambda x: x.clamp(0, 1),
    "RELU_N1_TO_1": lambda x: x.clamp(-1, 1),
    "RSQRT": torch.rsqrt,
    "SIN": torch.sin,
    "SQRT": torch.sqrt,
    "SQUARE": torch.square,
    "TANH": torch.tanh,
}
_BINARY: Mapping[str, Run] = {
    "ADD": torch.add,
    "DIV": torch.div,
    "MAXIMUM": torch.maximum,
    "MINIMUM": torch.minimum,
    "MUL": torch.mul,
    "POW": torch.pow,
    "PRELU": lambda x, slope: torch.where(x >= 0, x, slope * x),
    "SQUARED_DIFFERENCE": lambda a, b: (a - b) ** 2,
    "SUB": torch.sub,
}
POINTWISE = frozenset({*_UNARY, *_BINARY, "GELU", "LEAKY_RELU"})
SAME_SCALE = frozenset(
    {
        "BATCH_TO_SPACE_ND",
        "CONCATENATION",
        "DEPTH_TO_SPACE",
        "EXPAND_DIMS",
        "GATHER",
        "MAXIMUM",
        "MAX_POOL_2D",
        "MINIMUM",
        "MIRROR_PAD",
        "PAD",
        "RESHAPE",
        "SELECT_V2",
        "SLICE",
        "SPACE_TO_DEPTH",
        "SPLIT",
        "SQUEEZE",
        "STRIDED_SLICE",
        "TRANSPOSE",
        "UNPACK",
        "PACK",
        "AVERAGE_POOL_2D",
        "BROADCAST_TO",
        "TILE",
        "RESIZE_NEAREST_NEIGHBOR",
        "RESIZE_BILINEAR",
    }
)
"""Operators whose kernels take inputs and output on one grid."""


def build(kind: str, o: Any, names: Sequence[str], shapes: Mapping[str, Sequence[int]], part: int) -> Run | None:
    """What an operator computes of its inputs; None where this reader does not know it.

    Args:
        kind: name in the schema's BuiltinOperator.
        o: its options.
        names: of its inputs.
        shapes: declared in the file, by tensor.
        part: which of its outputs.
    """
    if kind in _UNARY:
        return _UNARY[kind]
    if kind in _BINARY:
        after = ACTIVATIONS.get(getattr(o, "fusedActivationFunction", 0) or 0)
        return None if after is None else lambda a, b: after(_BINARY[kind](a, b))
    maker = _MAKERS.get(kind)
    return None if maker is None else maker(o, names, shapes, part)


def _reduce(function: Callable[..., Tensor], o: Any, names: Sequence[str], shapes: Any, part: int) -> Run:
    return lambda x, axes: function(x, dim=ints(axes.reshape(-1)), keepdim=bool(o.keepDims))


def _matmul(o: Any, names: Sequence[str], shapes: Any, part: int) -> Run:
    return lambda a, b: (a.transpose(-1, -2) if o.adjX else a) @ (b.transpose(-1, -2) if o.adjY else b)


_MAKERS: Mapping[str, Callable[..., Run | None]] = {
    **LAYERS,
    **MOVES,
    "BATCH_MATMUL": _matmul,
    "GELU": lambda o, names, shapes, part: partial(F.gelu, approximate="tanh" if o.approximate else "none"),
    "LEAKY_RELU": lambda o, names, shapes, part: partial(F.leaky_relu, negative_slope=o.alpha),
    "MEAN": partial(_reduce, torch.mean),
    "REDUCE_MAX": partial(_reduce, torch.amax),
    "SOFTMAX": lambda o, names, shapes, part: lambda x: torch.softmax(x * o.beta, -1),
    "SUM": partial(_reduce, torch.sum),
}
