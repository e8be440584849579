"""Rules of the operators that have weights, and of products: they make channels and read them."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import fx

from compress.channels.calls import Call, Found, layer_of, shape_of
from compress.channels.ledger import Ids, Labels

__all__ = ["RULES"]


def _kept_axes(labels: Labels, *without: int) -> Labels:
    return {axis: ids for axis, ids in labels.items() if axis not in without}


def _make(call: Call, ids: Ids) -> None:
    """Note that the layer makes these channels."""
    call.ledger.made.append((ids, layer_of(call.node)))


def _read(call: Call, x: fx.Node, axis: int, ids: Ids) -> None:
    """Tie the channels that come in with the axis of a weight that reads them."""
    call.ledger.tie(call.ids(x, axis), ids)


def _settle(call: Call, weight: fx.Node, axes: range) -> list[Ids]:
    """Let the kernel of a convolution stay as large as it is."""
    kernel = [call.labels(weight)[axis] for axis in axes if axis in call.labels(weight)]
    for ids in kernel:
        call.ledger.freeze(ids, f"the kernel of {layer_of(call.node)}")
    return kernel


def convolution(call: Call) -> Found:
    """A convolution of any rank; the weight is (out, in / groups, kernel...)."""
    x, weight, bias = (call.argument(name) for name in ("input", "weight", "bias"))
    groups = int(call.argument("groups", 1))
    outputs, inputs = shape_of(weight)[0], shape_of(x)[1]
    made, kernel = call.ids(weight, 0), _settle(call, weight, range(2, len(shape_of(weight))))
    if groups == 1:
        read = call.ids(weight, 1)
        _read(call, x, 1, read)
        kernel.append(read)
    elif groups == inputs:  # depthwise: the groups leave with their channels
        coming = call.ids(x, 1)
        call.ledger.tie(made.reshape(groups, outputs // groups), coming[:, None])
    else:  # as many groups as before, each of which loses the same places
        read, sizes = call.ids(weight, 1), (groups, inputs // groups)
        call.ledger.tie(call.ledger.together(call.ids(x, 1), sizes, 1), read)
        call.ledger.together(made, (groups, outputs // groups), 1)
        kernel.append(read)
    _make(call, made)
    call.tie(bias, 0, made)
    call.count(call.positions(call.shape, 1), made, *kernel)
    return {1: made}


def transposed_convolution(call: Call) -> Found:
    """A transposed convolution; the weight is (in, out / groups, kernel...)."""
    x, weight, bias = (call.argument(name) for name in ("input", "weight", "bias"))
    kernel = _settle(call, weight, range(2, len(shape_of(weight))))
    if int(call.argument("groups", 1)) != 1:
        return call.forbid(" with groups")
    read, made = call.ids(weight, 0), call.ids(weight, 1)
    _read(call, x, 1, read)
    _make(call, made)
    call.tie(bias, 0, made)
    call.count(call.positions(shape_of(x), 1), made, read, *kernel)
    return {1: made}


def linear(call: Call) -> Found:
    """A linear layer; the weight is (out, in)."""
    x, weight, bias = (call.argument(name) for name in ("input", "weight", "bias"))
    last = len(shape_of(x)) - 1
    made, read = call.ids(weight, 0), call.ids(weight, 1)
    _read(call, x, last, read)
    _make(call, made)
    call.tie(bias, 0, made)
    call.count(call.positions(call.shape, -1), made, read)
    return {**_kept_axes(call.labels(x), last), last: made}


def _stacked(call: Call, node: fx.Node, other: fx.Node) -> Labels:
    """What is known of a product from the axes in front of one factor's matrices."""
    own, across, found = len(shape_of(node)), len(shape_of(other)), {}
    for axis in range(own - 2):
        if axis in (labels := call.labels(node)):
            place = axis + across - own
            if place >= 0 and shape_of(other)[place] > 1:
                call.ledger.tie(labels[axis], call.ids(other, place))
            found[axis + len(call.shape) - own] = labels[axis]
    return found


def matmul(call: Call) -> Found:
    """A product of two tensors of rank 2 or more; what is summed over leaves on both sides."""
    a, b = call.inputs if len(call.inputs) == 2 else (call.inputs[0],) * 2
    shape_a, shape_b, rank = shape_of(a), shape_of(b), len(call.shape)
    if min(len(shape_a), len(shape_b)) < 2:
        return call.forbid(" with a vector")
    rows, columns = len(shape_a) - 2, len(shape_b) - 1
    labels_a, labels_b = call.labels(a), call.labels(b)
    found = _stacked(call, a, b) | _stacked(call, b, a)
    inner: list[Ids] = []
    if rows + 1 in labels_a or columns - 1 in labels_b:
        inner = [call.ids(a, rows + 1)]
        call.ledger.tie(inner[0], call.ids(b, columns - 1))
    if rows in labels_a:
        found[rank - 2] = labels_a[rows]
    if columns in labels_b:
        found[rank - 1] = labels_b[columns]
    fixed = math.prod(n for axis, n in enumerate(call.shape) if axis not in found)
    call.count(fixed * (1 if inner else shape_a[-1]), *found.values(), *inner)
    return found


def attention(call: Call) -> Found:
    """softmax(q k') v on (N, heads, length, width).

    Its own factor 1 / sqrt(width) follows the width that is left.
    """
    q, k, v = (call.argument(name) for name in ("query", "key", "value"))
    last = len(shape_of(q)) - 1
    inner, out = call.ids(q, last), call.ids(v, last)
    call.tie(k, last, inner)
    for node in (q, k, v):
        call.forbid_axes(node, range(last))
    if call.argument("attn_mask") is not None:
        call.forbid_axes(call.argument("attn_mask"), range(len(shape_of(call.argument("attn_mask")))))
    pairs = call.positions(shape_of(q), -1) * shape_of(k)[-2]
    call.count(pairs, inner)
    call.count(pairs, out)
    return {last: out}


def batch_norm(call: Call) -> Found:
    """Batch normalisation: a scale, a shift and two statistics a channel."""
    x = call.argument("input")
    ids = call.ids(x, 1)
    for name in ("weight", "bias", "running_mean", "running_var"):
        call.tie(call.argument(name), 0, ids)
    return dict(call.labels(x))


def layer_norm(call: Call) -> Found:
    """Layer normalisation over the last axis: the mean and variance are then those of the channels left."""
    x = call.argument("input")
    if len(call.argument("normalized_shape")) != 1:
        return call.forbid(" over several axes")
    ids = call.ids(x, len(shape_of(x)) - 1)
    for name in ("weight", "bias"):
        call.tie(call.argument(name), 0, ids)
    return dict(call.labels(x))


def group_norm(call: Call) -> Found:
    """Group normalisation: each group loses the same places."""
    x, groups = call.argument("input"), int(call.argument("num_groups"))
    ids = call.ids(x, 1)
    call.ledger.together(ids, (groups, ids.size // groups), 1)
    for name in ("weight", "bias"):
        call.tie(call.argument(name), 0, ids)
    return dict(call.labels(x))


def prelu(call: Call) -> Found:
    """A slope for all channels, or one for each."""
    x, weight = call.argument("self"), call.argument("weight")
    if shape_of(weight)[0] > 1:
        call.tie(weight, 0, call.ids(x, 1))
    return dict(call.labels(x))


def embedding(call: Call) -> Found:
    """Rows of a table by number."""
    weight = call.argument("weight")
    call.forbid_axes(weight, [0])
    ids = call.labels(weight).get(1)
    return {} if ids is None else {len(call.shape) - 1: ids}


RULES: dict[str, Callable[[Call], Found]] = {
    "conv1d": convolution,
    "conv2d": convolution,
    "conv3d": convolution,
    "conv_transpose1d": transposed_convolution,
    "conv_transpose2d": transposed_convolution,
    "linear": linear,
    "matmul": matmul,
    "bmm": matmul,
    "mm": matmul,
    "scaled_dot_product_attention": attention,
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    "group_norm": group_norm,
    "prelu": prelu,
    "embedding": embedding,
}
"""By the operator's name."""
