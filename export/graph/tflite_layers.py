"""TFLite's layers with weights or windows, in torch on NHWC tensors of any batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor

from export.graph.ir import Linear

__all__ = ["ACTIVATIONS", "LAYERS", "Run", "ints", "linear"]

Run = Callable[..., Tensor]

ACTIVATIONS: Mapping[int, Run] = {
    0: lambda x: x,
    1: F.relu,
    2: lambda x: x.clamp(-1, 1),
    3: F.relu6,
    4: torch.tanh,
}
"""By ActivationFunctionType of the schema."""


def ints(x: Tensor | Sequence[int]) -> list[int]:
    """A tensor of whole numbers, or a sequence of them, as a list."""
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


def _resize(mode: str, o: Any, names: Sequence[str], shapes: Any, part: int) -> Run | None:
    if mode == "nearest" and o.alignCorners:
        return None
    if mode == "nearest" and o.halfPixelCenters:
        mode = "nearest-exact"
    corners = {"align_corners": bool(o.alignCorners)} if mode == "bilinear" else {}
    if mode == "bilinear" and not (o.alignCorners or o.halfPixelCenters):
        return None
    return lambda x, size: _nhwc(F.interpolate(_nchw(x), tuple(ints(size)), mode=mode, **corners))


LAYERS: Mapping[str, Callable[..., Run | None]] = {
    **{k: partial(_with_linear, k) for k in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")},
    **{k: partial(_pool, k) for k in ("MAX_POOL_2D", "AVERAGE_POOL_2D")},
    "RESIZE_BILINEAR": partial(_resize, "bilinear"),
    "RESIZE_NEAREST_NEIGHBOR": partial(_resize, "nearest"),
}
"""By operator: its options, the names of its inputs, all shapes and which output it is, to what it computes."""
