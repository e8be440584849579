"""Rules of the operators that have no weights and move numbers: shapes, cuts, joins and shuffles."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate

import numpy as np
from torch import fx

from compress.channels.calls import Call, Found, shape_of
from compress.channels.ledger import Ids, Labels

__all__ = ["RULES", "SIZED"]

SIZED = frozenset(
    (
        "slice",
        "split",
        "split_with_sizes",
        "tensor_split",
        "view",
        "reshape",
        "expand",
        "flatten",
        "unflatten",
        "chunk",
        "unbind",
    )
)
"""Operators whose sizes may be numbers in the network's code: whether they follow the channels must be tried."""


def pad(call: Call) -> Found:
    """Padding: an axis that is padded stays."""
    x = call.inputs[0]
    before = shape_of(x)
    return call.forbid_axes(x, [a for a, n in enumerate(call.shape) if n != before[a]])


def permute(call: Call) -> Found:
    """Axes in another order."""
    labels, rank = call.labels(call.inputs[0]), len(call.shape)
    return {new: labels[old % rank] for new, old in enumerate(call.argument("dims")) if old % rank in labels}


def transpose(call: Call) -> Found:
    """Two axes exchanged; the last two of a matrix where none is named."""
    x = call.inputs[0]
    rank, order = len(shape_of(x)), list(range(len(shape_of(x))))
    a, b = (int(call.argument(f"dim{i}", i)) % rank for i in (0, 1))
    order[a], order[b] = order[b], order[a]
    return {new: call.labels(x)[old] for new, old in enumerate(order) if old in call.labels(x)}


def reverse(call: Call) -> Found:
    """All axes in reverse."""
    return {len(call.shape) - 1 - axis: ids for axis, ids in call.labels(call.inputs[0]).items()}


def unsqueeze(call: Call) -> Found:
    """An axis of size 1 more."""
    axis = int(call.argument("dim")) % len(call.shape)
    return {a + (a >= axis): ids for a, ids in call.labels(call.inputs[0]).items()}


def expand(call: Call) -> Found:
    """Axes of size 1 repeated, new ones in front."""
    x = call.inputs[0]
    more = len(call.shape) - len(shape_of(x))
    return {a + more: ids for a, ids in call.labels(x).items()}


def blocks(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The axes of two shapes of as many numbers, in the smallest runs that hold as many; axes of size 1 left out."""
    left = [a for a, n in enumerate(old) if n != 1]
    right = [a for a, n in enumerate(new) if n != 1]
    found: list[tuple[list[int], list[int]]] = []
    while left and right:
        mine, theirs = [left.pop(0)], [right.pop(0)]
        while (a := math.prod(old[i] for i in mine)) != (b := math.prod(new[i] for i in theirs)):
            (mine if a < b else theirs).append((left if a < b else right).pop(0))
        found.append((mine, theirs))
    return found


def reshape(call: Call) -> Found:
    """Another shape: an axis may be split, where the largest part alone may lose channels, or axes be joined."""
    x = call.inputs[0]
    old, new, labels = shape_of(x), call.shape, call.labels(x)
    found: Labels = {}
    for mine, theirs in blocks(old, new):
        tracked = [a for a in mine if a in labels]
        if not tracked:
            continue
        if len(mine) == 1:
            sizes = tuple(new[a] for a in theirs)
            widest = max(range(len(sizes)), key=lambda k: (sizes[k], k))
            found[theirs[widest]] = call.ledger.together(labels[mine[0]], sizes, widest)
        elif len(theirs) == 1 and len(tracked) == 1:
            column = labels[tracked[0]].reshape([-1 if a == tracked[0] else 1 for a in mine])
            found[theirs[0]] = np.broadcast_to(column, [old[a] for a in mine]).ravel()
        else:
            call.forbid_axes(x, tracked)
    return found


def cat(call: Call) -> Found:
    """Tensors one after another."""
    tensors: list[fx.Node] = list(call.argument("tensors"))
    axis = int(call.argument("dim", 0)) % len(call.shape)
    found: Labels = {}
    for a in range(len(call.shape)):
        if not any(a in call.labels(n) for n in tensors):
            continue
        parts = [call.ids(n, a) for n in tensors]
        for other in parts[1:] if a != axis else ():
            call.ledger.tie(parts[0], other)
        found[a] = np.concatenate(parts) if a == axis else parts[0]
    return found


def stack(call: Call) -> Found:
    """Tensors along a new axis, which stays."""
    tensors: list[fx.Node] = list(call.argument("tensors"))
    axis = int(call.argument("dim", 0)) % len(call.shape)
    found: Labels = {}
    for a in range(len(call.shape) - 1):
        if any(a in call.labels(n) for n in tensors):
            first, *others = (call.ids(n, a) for n in tensors)
            for ids in others:
                call.ledger.tie(first, ids)
            found[a + (a >= axis)] = first
    return found


def cut(call: Call) -> Found:
    """Parts along an axis; those of one size lose the same places, so that halves stay halves."""
    x, axis = call.inputs[0], call.axis()
    labels, values = call.labels(x), call.node.meta["val"]
    sizes = [int(v.shape[axis]) for v in values]
    if axis not in labels:
        return [dict(labels) for _ in sizes]
    ends = list(accumulate(sizes))
    parts: list[Ids] = [labels[axis][end - size : end] for end, size in zip(ends, sizes, strict=True)]
    if len(set(sizes)) == 1:
        for part in parts[1:]:
            call.ledger.tie(parts[0], part)
    return [{**labels, axis: part} for part in parts]


def unbind(call: Call) -> Found:
    """One tensor for each index of an axis, which stays."""
    axis = call.axis()
    labels = call.forbid_axes(call.inputs[0], [axis])
    return [{a - (a > axis): ids for a, ids in labels.items()} for _ in call.node.meta["val"]]


def select(call: Call) -> Found:
    """One index of an axis, which stays."""
    axis = call.axis()
    return {a - (a > axis): ids for a, ids in call.forbid_axes(call.inputs[0], [axis]).items()}


def squeeze(call: Call) -> Found:
    """Axes of size 1 less."""
    x = call.inputs[0]
    kept = [a for a, n in enumerate(shape_of(x)) if n != 1]
    dims = call.argument("dim")
    if dims is not None:
        rank = len(shape_of(x))
        gone = {d % rank for d in ([dims] if isinstance(dims, int) else dims)}
        kept = [a for a, n in enumerate(shape_of(x)) if not (n == 1 and a in gone)]
    return {kept.index(a): ids for a, ids in call.labels(x).items()}


def take_slice(call: Call) -> Found:
    """Some indices of an axis."""
    x, axis = call.inputs[0], call.axis()
    labels = dict(call.labels(x))
    if axis in labels:
        labels[axis] = labels[axis][call.argument("start") : call.argument("end") : call.argument("step", 1)]
    return labels


def index(call: Call) -> Found:
    """Rows by number: the axis that is picked from stays."""
    x, picks = call.argument("self"), call.argument("indices")
    if len(picks) != 1 or picks[0] is None:
        return call.forbid()
    more = len(shape_of(picks[0])) - 1
    return {a + more: ids for a, ids in call.forbid_axes(x, [0]).items()}


def pixel_shuffle(call: Call) -> Found:
    """(C r², H, W) to (C, H r, W r): channels leave in groups of r²."""
    x, r = call.inputs[0], int(call.argument("upscale_factor"))
    labels = call.forbid_axes(x, (2, 3))
    return {1: call.ledger.together(labels[1], (labels[1].size // r**2, r**2), 0)} if 1 in labels else {}


def pixel_unshuffle(call: Call) -> Found:
    """(C, H r, W r) to (C r², H, W): a channel becomes r²."""
    x, r = call.inputs[0], int(call.argument("downscale_factor"))
    labels = call.forbid_axes(x, (2, 3))
    return {1: np.repeat(labels[1], r**2)} if 1 in labels else {}


def channel_shuffle(call: Call) -> Found:
    """Places of groups take turns; each group loses the same places."""
    x, groups = call.inputs[0], int(call.argument("groups"))
    labels = dict(call.labels(x))
    if 1 in labels:
        call.ledger.together(labels[1], (groups, labels[1].size // groups), 1)
        labels[1] = labels[1].reshape(groups, -1).T.ravel()
    return labels


def getitem(call: Call) -> Found:
    """One of several outputs."""
    source, number = call.node.args
    found = call.known.get(source, {}) if isinstance(source, fx.Node) else {}
    return dict(found[int(number)]) if isinstance(found, list) and isinstance(number, int) else {}


RULES: dict[str, Callable[[Call], Found]] = {
    **dict.fromkeys(("pad", "constant_pad_nd", "reflection_pad2d", "replication_pad2d"), pad),
    **dict.fromkeys(("view", "reshape", "flatten", "unflatten"), reshape),
    **dict.fromkeys(("chunk", "split", "split_with_sizes", "tensor_split"), cut),
    **dict.fromkeys(("transpose", "t", "swapaxes"), transpose),
    **dict.fromkeys(("expand", "expand_as"), expand),
    "permute": permute,
    "numpy_T": reverse,
    "unsqueeze": unsqueeze,
    "squeeze": squeeze,
    "cat": cat,
    "concat": cat,
    "stack": stack,
    "unbind": unbind,
    "select": select,
    "slice": take_slice,
    "index": index,
    "pixel_shuffle": pixel_shuffle,
    "pixel_unshuffle": pixel_unshuffle,
    "channel_shuffle": channel_shuffle,
    "getitem": getitem,
}
"""By the operator's name."""
