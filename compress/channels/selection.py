"""Which channels leave: the least important first, until a budget for the whole network is met."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from compress.channels.graph import Dependencies, Group
from compress.channels.ledger import Term
from compress.errors import UsageError

__all__ = ["Budget", "chosen", "cost"]

Unit = Literal["macs", "bytes", "channels"]
_SHOWN = 6


@dataclass(frozen=True)
class Budget:
    """How much goes."""

    share: float
    """Of the whole network's cost, in [0, 1)."""
    unit: Unit = "macs"
    align: int = 1
    """Layers that are cut keep a multiple of it."""
    most: float = 0.9
    """The largest share of a layer's channels that may go; one channel always stays."""
    skip: tuple[str, ...] = ()
    """Patterns of layers whose channels stay."""


def cost(found: Dependencies, kept: NDArray[np.bool_], unit: Unit) -> int:
    """What a choice leaves: multiply-accumulates, numbers in tensors, or channels that could leave."""
    if unit == "channels":
        return sum(int(kept[group.units].sum()) for group in found.groups)
    return sum(term.value(kept) for term in (found.work if unit == "macs" else _sizes(found)))


def _sizes(found: Dependencies) -> list[Term]:
    return [Term(1, tuple(labels.values())) for labels in found.places.values()]


def chosen(found: Dependencies, scores: NDArray[np.float64], budget: Budget) -> NDArray[np.bool_]:
    """For every unit whether it stays.

    Raises:
        UsageError: a pattern fits no layer, nothing may leave, or a layer would be emptied before the budget is met.
    """
    groups = _open(found, budget.skip)
    orders = [group.units[np.argsort(scores[group.units], kind="stable")] for group in groups]
    ends = [group.units.size - _least(group, budget) for group in groups]
    ranked = sorted((float(scores[unit]), i) for i, order in enumerate(orders) for unit in order[: ends[i]].tolist())
    target = (1 - budget.share) * cost(found, found.all_kept, budget.unit)

    def choice(count: int) -> NDArray[np.bool_]:
        gone = np.bincount([i for _, i in ranked[:count]], minlength=len(groups))
        kept = found.all_kept
        for group, order, n in zip(groups, orders, gone.tolist(), strict=True):
            kept[order[: group.units.size - _rounded(group, group.units.size - n, budget.align)]] = False
        return kept

    if cost(found, choice(len(ranked)), budget.unit) > target:
        raise UsageError(_unreachable(found, budget, groups, choice(len(ranked))))
    low, high = 0, len(ranked)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if cost(found, choice(middle), budget.unit) <= target else (middle + 1, high)
    return choice(low)


def _open(found: Dependencies, skip: tuple[str, ...]) -> list[Group]:
    """The groups none of whose layers is to be left alone."""
    layers = {layer for group in found.groups for layer in group.layers}
    for pattern in skip:
        if not any(fnmatch(name, pattern) for name in layers | found.forbidden.keys()):
            known = ", ".join(sorted(layers)[:_SHOWN])
            raise UsageError(f"skip holds {pattern!r}, which fits no layer; layers whose channels may leave: {known}")
    groups = [g for g in found.groups if not any(fnmatch(name, p) for name in g.layers for p in skip)]
    if not groups:
        reasons = "; ".join(f"{layer}: {why}" for layer, why in list(found.forbidden.items())[:_SHOWN])
        raise UsageError(f"no channel may leave: {reasons or 'it has no convolution or linear layer'}")
    return groups


def _least(group: Group, budget: Budget) -> int:
    """How many units a group keeps at least."""
    return max(1, math.ceil(round(group.units.size * (1 - budget.most), 6)))


def _rounded(group: Group, kept: int, align: int) -> int:
    """The next number of units that makes an aligned width, at most all."""
    step = align // math.gcd(align, group.multiplicity)
    return min(group.units.size, -(-kept // step) * step)


def _unreachable(found: Dependencies, budget: Budget, groups: list[Group], kept: NDArray[np.bool_]) -> str:
    left = cost(found, kept, budget.unit) / max(1, cost(found, found.all_kept, budget.unit))
    layers = ", ".join([g.layers[0] for g in groups][:_SHOWN])
    stay = "; ".join(f"{layer} ({why})" for layer, why in list(found.forbidden.items())[:_SHOWN])
    return (
        f"{budget.share:.0%} of the {budget.unit} cannot go without emptying layers: with {budget.most:.0%} of the "
        f"channels of {layers} and so on, {1 - left:.0%} go; layers that stay: {stay}; take a smaller share, a smaller "
        "align or fewer patterns in skip"
    )
