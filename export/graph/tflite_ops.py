"""What TFLite's operators compute, in torch on NHWC tensors of any batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor

from export.graph.ir import Linear

__all__ = ["POINTWISE", "SAME_SCALE", "UNARY", "build", "linear"]

Run = Callable[..., Tensor]

ACTIVATIONS: Mapping[int, Run] = {
    0: lambda x: x,
    1: F.relu,
    2: lambda x: x.clamp(-1, 1),
    3: F.relu6,
    4: torch.tanh,
}
"""By ActivationFunctionType of the schema."""

UNARY: Mapping[str, Run] = {
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
POINTWISE = frozenset({*UNARY, *_BINARY, "GELU", "LEAKY_RELU"})
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


def _ints(x: Tensor | Sequence[int]) -> list[int]:
    return [int(n) for n in (x.tolist() if isinstance(x, Tensor) else x)]


def _same_pad(x: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], value: float) -> Tensor:
    """SAME padding of an NCHW tensor: the odd pixel at the end."""
    pads: list[int] = []
    for side, k, s, d in reversed(list(zip(x.shape[2:], kernel, stride, dilation, strict=True))):
        total = max((-(-side // s) - 1) * s + (k - 1) * d + 1 - side, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads, value=value) if any(pads) else x


def _nchw(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def _nhwc(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def _conv(
    o: Any, depthwise: bool, weight_shape: Sequence[int], depth: int
) -> tuple[Any, Callable[[Tensor], Tensor], int]:
    """(convolve, pad, groups) of CONV_2D and DEPTHWISE_CONV_2D; weights OHWI, and 1HWO where depthwise."""
    kernel = list(weight_shape[1:3])
    stride, dilation = [o.strideH, o.strideW], [o.dilationHFactor, o.dilationWFactor]
    groups = depth if depthwise else depth // weight_shape[3]

    def pad(x: Tensor) -> Tensor:
        x = _nchw(x)
        return _same_pad(x, kernel, stride, dilation, 0.0) if o.padding == 0 else x

    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        oihw = weight.permute(3, 0, 1, 2) if depthwise else weight.permute(0, 3, 1, 2)
        return _nhwc(F.conv2d(pad(x), oihw, bias, stride, 0, dilation, groups))

    return convolve, pad, groups


def linear(kind: str, o: Any, names: Sequence[str], shapes: Mapping[str, Sequence[int]]) -> Linear | None:
    """The linear part of a convolution or fully connected layer with a constant weight."""
    weight, bias = names[1], names[2] if len(names) > 2 and names[2] else None
    shape = shapes[weight]
    if kind == "FULLY_CONNECTED":

        def dense(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
            flat = x if o.keepNumDims and x.shape[-1] == shape[1] else x.reshape(-1, shape[1])
            return F.linear(flat, w, b)

        return Linear(
            weight,
            bias,
            0,
            dense,
            patches=lambda x: x.reshape(-1, shape[1]).t()[None],
            rows=lambda w: w[None],
            weight_of=lambda rows: rows[0],
            outputs=lambda y: y.reshape(-1, shape[0]).t()[None],
        )
    depthwise = kind == "DEPTHWISE_CONV_2D"
    convolve, pad, groups = _conv(o, depthwise, shape, shapes[names[0]][3])
    window = {"dilation": (o.dilationHFactor, o.dilationWFactor), "stride": (o.strideH, o.strideW)}

    def patches(x: Tensor) -> Tensor:
        padded = pad(x)
        columns = F.unfold(padded, (shape[1], shape[2]), **window)  # (N, C*k*k, L)
        count, fan, places = columns.shape
        return (
            columns.reshape(count, groups, fan // groups, places).permute(1, 2, 0, 3).reshape(groups, fan // groups, -1)
        )

    def rows(w: Tensor) -> Tensor:
        oihw = w.permute(3, 0, 1, 2) if depthwise else w.permute(0, 3, 1, 2)
        return oihw.reshape(groups, oihw.shape[0] // groups, -1)

    def weight_of(r: Tensor) -> Tensor:
        inner = shape[0] if depthwise else shape[3]
        oihw = r.reshape(-1, inner, shape[1], shape[2])
        return (oihw.permute(1, 2, 3, 0) if depthwise else oihw.permute(0, 2, 3, 1)).contiguous()

    def outputs(y: Tensor) -> Tensor:
        return y.reshape(-1, groups, y.shape[3] // groups).permute(1, 2, 0)

    return Linear(weight, bias, 3 if depthwise else 0, convolve, patches, rows, weight_of, outputs)


def build(kind: str, o: Any, names: Sequence[str], shapes: Mapping[str, Sequence[int]], part: int) -> Run | None:
    """What an operator computes of its inputs; None where this reader does not know it.

    Args:
        kind: name in the schema's BuiltinOperator.
        o: its options.
        names: of its inputs.
        shapes: declared in the file, by tensor.
        part: which of its outputs.
    """
    if kind in UNARY:
        return UNARY[kind]
    if kind in _BINARY:
        after = ACTIVATIONS.get(getattr(o, "fusedActivationFunction", 0) or 0)
        return None if after is None else lambda a, b: after(_BINARY[kind](a, b))
    maker = _MAKERS.get(kind)
    return None if maker is None else maker(o, names, shapes, part)


def _with_linear(kind: str, o: Any, names: Sequence[str], shapes: Any, part: int) -> Run | None:
    found = linear(kind, o, names, shapes)
    after = ACTIVATIONS.get(o.fusedActivationFunction)
    if found is None or after is None:
        return None
    return lambda x, w, b=None: after(found.apply(x, w, b))


def _pool(kind: str, o: Any, names: Sequence[str], shapes: Any, part: int) -> Run | None:
    kernel, stride = [o.filterHeight, o.filterWidth], [o.strideH, o.strideW]
    after = ACTIVATIONS[o.fusedActivationFunction]

    def largest(x: Tensor) -> Tensor:
        x = _nchw(x)
        x = _same_pad(x, kernel, stride, [1, 1], float("-inf")) if o.padding == 0 else x
        return after(_nhwc(F.max_pool2d(x, kernel, stride)))

    def mean(x: Tensor) -> Tensor:
        x = _nchw(x)
        if o.padding != 0:
            return after(_nhwc(F.avg_pool2d(x, kernel, stride)))
        ones = _same_pad(torch.ones_like(x), kernel, stride, [1, 1], 0.0)
        sums = F.avg_pool2d(_same_pad(x, kernel, stride, [1, 1], 0.0), kernel, stride, divisor_override=1)
        return after(_nhwc(sums / F.avg_pool2d(ones, kernel, stride, divisor_override=1)))

    return largest if kind == "MAX_POOL_2D" else mean


def _reshape(o: Any, names: Sequence[str], shapes: Any, part: int) -> Run:
    declared = list(shapes[names[0]])
    target = list(o.newShape) if o is not None and o.newShape is not None else None

    def run(x: Tensor, shape: Tensor | None = None) -> Tensor:
        wanted = _ints(shape) if shape is not None else [int(n) for n in target or ()]
        times = x.numel() // max(math.prod(declared), 1)
        if times > 1 and wanted and wanted[0] > 0:  # the batch is outermost, alone or with others
            wanted[0] *= times
        return x.reshape(wanted)

    return run


def _reduce(function: Callable[..., Tensor], o: Any, names: Sequence[str], shapes: Any, part: int) -> Run:
    return lambda x, axes: function(x, dim=_ints(axes.reshape(-1)), keepdim=bool(o.keepDims))


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


def _resize(mode: str, o: Any, names: Sequence[str], shapes: Any, part: int) -> Run | None:
    if mode == "nearest" and o.alignCorners:
        return None
    if mode == "nearest" and o.halfPixelCenters:
        mode = "nearest-exact"
    corners = {"align_corners": bool(o.alignCorners)} if mode == "bilinear" else {}
    if mode == "bilinear" and not (o.alignCorners or o.halfPixelCenters):
        return None
    return lambda x, size: _nhwc(F.interpolate(_nchw(x), tuple(_ints(size)), mode=mode, **corners))


def _slice(o: Any, names: Sequence[str], shapes: Any, part: int) -> Run:
    def run(x: Tensor, begin: Tensor, size: Tensor) -> Tensor:
        for axis, (first, count) in enumerate(zip(_ints(begin), _ints(size), strict=True)):
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
        for axis, (first, last, step) in enumerate(zip(_ints(begin), _ints(end), _ints(strides), strict=True)):
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


def _matmul(o: Any, names: Sequence[str], shapes: Any, part: int) -> Run:
    return lambda a, b: (a.transpose(-1, -2) if o.adjX else a) @ (b.transpose(-1, -2) if o.adjY else b)


def _pad(o: Any, names: Sequence[str], shapes: Any, part: int) -> Run:
    def run(x: Tensor, amounts: Tensor, value: Tensor | None = None) -> Tensor:
        flat = [int(n) for pair in reversed(amounts.tolist()) for n in pair]
        return F.pad(x, flat, value=0.0 if value is None else float(value))

    return run


def _squeeze(o: Any, names: Sequence[str], shapes: Any, part: int) -> Run:
    declared = list(shapes[names[0]])
    axes = [int(a) % len(declared) for a in o.squeezeDims] or [k for k, n in enumerate(declared) if n == 1 and k]
    return lambda x: x.squeeze(tuple(axes))


_MAKERS: Mapping[str, Callable[..., Run | None]] = {
    **{k: partial(_with_linear, k) for k in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")},
    **{k: partial(_pool, k) for k in ("MAX_POOL_2D", "AVERAGE_POOL_2D")},
    "BATCH_MATMUL": _matmul,
    "BROADCAST_TO": lambda o, names, shapes, part: lambda x, shape: x + torch.zeros(_ints(shape), dtype=x.dtype),
    "CONCATENATION": _concat,
    "DEPTH_TO_SPACE": _depth_to_space,
    "EXPAND_DIMS": lambda o, names, shapes, part: lambda x, axis: x.unsqueeze(int(axis)),
    "GATHER": _gather,
    "GELU": lambda o, names, shapes, part: partial(F.gelu, approximate="tanh" if o.approximate else "none"),
    "LEAKY_RELU": lambda o, names, shapes, part: partial(F.leaky_relu, negative_slope=o.alpha),
    "MEAN": partial(_reduce, torch.mean),
    "PACK": lambda o, names, shapes, part: _pack(o.axis),
    "PAD": _pad,
    "PADV2": _pad,
    "REDUCE_MAX": partial(_reduce, torch.amax),
    "RESHAPE": _reshape,
    "RESIZE_BILINEAR": partial(_resize, "bilinear"),
    "RESIZE_NEAREST_NEIGHBOR": partial(_resize, "nearest"),
    "SLICE": _slice,
    "SOFTMAX": lambda o, names, shapes, part: lambda x: torch.softmax(x * o.beta, -1),
    "SPACE_TO_DEPTH": _space_to_depth,
    "SPLIT": _split,
    "SQUEEZE": _squeeze,
    "STRIDED_SLICE": _strided_slice,
    "SUM": partial(_reduce, torch.sum),
    "TILE": lambda o, names, shapes, part: lambda x, times: x.repeat(_ints(times)),
    "UNPACK": lambda o, names, shapes, part: lambda x: x.select(o.axis, part),
    "TRANSPOSE": lambda o, names, shapes, part: lambda x, order: x.permute(_ints(order)),
}
