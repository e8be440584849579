"""Rules of the operators that change numbers and leave shapes alone, and of sums over axes."""

from __future__ import annotations

from collections.abc import Callable

from compress.channels.calls import Call, Found, shape_of
from compress.channels.ledger import Labels

__all__ = ["RULES"]

_POINTWISE = frozenset(
    """
    abs add alias clamp clamp_max clamp_min clone contiguous detach div dropout elu eq erf exp feature_dropout floor
    ge gelu gt hardsigmoid hardswish hardtanh le leaky_relu lift_fresh_copy log logical_and logical_not lt maximum
    minimum mish mul ne neg ones_like pow reciprocal relu relu6 round rsqrt rsub selu sigmoid sign silu softplus
    sqrt square sub tanh to _to_copy type_as where zeros_like
    """.split()  # noqa: SIM905  (one name a line would fill a page)
)
_POOLS = frozenset(
    """
    adaptive_avg_pool2d adaptive_max_pool2d avg_pool2d max_pool2d upsample_bicubic2d upsample_bilinear2d
    upsample_nearest2d
    """.split()  # noqa: SIM905  (one name a line would fill a page)
)


def pointwise(call: Call) -> Found:
    """Number by number, with broadcasting: channels that meet go together."""
    rank = len(call.shape)
    found: Labels = {}
    for axis in range(rank):
        meet = [(n, axis - rank + len(shape_of(n))) for n in call.inputs]
        meet = [(n, own) for n, own in meet if own >= 0 and shape_of(n)[own] > 1]
        if not any(own in call.labels(n) for n, own in meet):
            continue
        first, *others = (call.ids(n, own) for n, own in meet)
        for ids in others:
            call.ledger.tie(first, ids)
        found[axis] = first
    return found


def pool(call: Call) -> Found:
    """Pooling and resizing of the last two axes."""
    x = call.inputs[0]
    rank = len(shape_of(x))
    return call.forbid_axes(x, (rank - 2, rank - 1))


def softmax(call: Call) -> Found:
    """Along one axis, which stays."""
    return call.forbid_axes(call.inputs[0], [call.axis()])


def reduction(call: Call) -> Found:
    """Sums, means and norms: over channels, those that are left."""
    x = call.inputs[0]
    rank, dims = len(shape_of(x)), call.argument("dim")
    dims = [dims] if isinstance(dims, int) else list(dims or range(rank))
    gone = {d % rank for d in dims}
    labels = {a: ids for a, ids in call.labels(x).items() if a not in gone}
    if bool(call.argument("keepdim", False)):
        return labels
    return {a - sum(g < a for g in gone): ids for a, ids in labels.items()}


RULES: dict[str, Callable[[Call], Found]] = {
    **dict.fromkeys(_POINTWISE, pointwise),
    **dict.fromkeys(_POOLS, pool),
    **dict.fromkeys(("softmax", "log_softmax"), softmax),
    **dict.fromkeys(("mean", "sum", "linalg_vector_norm", "norm"), reduction),
}
"""By the operator's name."""
