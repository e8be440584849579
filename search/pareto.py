"""Which of several candidates no other one beats in everything."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["front"]


def front(costs: Sequence[Sequence[float]]) -> list[bool]:
    """Whether each candidate is on the Pareto front; every cost is to be made small.

    A candidate is dominated when another is no worse in every cost and better in one; equal candidates do not
    dominate each other.  A NaN cost (not measured) never dominates and is never dominated on.

    >>> front([(1, 5), (2, 3), (2, 4)])
    [True, True, False]
    """
    values = np.asarray(costs, float)
    if values.ndim != 2:
        return [True] * len(costs)
    no_worse = np.all(values[:, None] <= values[None], axis=2)
    better = np.any(values[:, None] < values[None], axis=2)
    dominated = np.any(no_worse & better, axis=0)
    return [not bool(d) for d in np.atleast_1d(dominated)]
