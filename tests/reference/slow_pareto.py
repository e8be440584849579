"""Pareto dominance, pair by pair, from its definition."""

from collections.abc import Sequence


def dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether ``a`` is no worse than ``b`` in every cost and better in one."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


def front(costs: Sequence[Sequence[float]]) -> list[bool]:
    """Whether no candidate dominates each."""
    return [not any(dominates(other, one) for other in costs) for one in costs]
