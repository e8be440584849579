"""Which of several candidates no other one beats in everything, and how much space they dominate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["front", "hypervolume"]


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


def hypervolume(costs: Sequence[Sequence[float]], reference: Sequence[float]) -> float:
    """The volume between a fixed reference point and the candidates that are better than it in every cost.

    Exact, by slicing along the last cost (While et al., 2006, section II.B); every cost is to be made small.
    A candidate with a NaN cost, or no better than the reference in some cost, adds nothing.

    >>> hypervolume([(1, 2), (2, 1)], (3, 3))
    3.0
    """
    corner = np.asarray(reference, float)
    if corner.ndim != 1 or not corner.size or not np.isfinite(corner).all():
        raise ValueError(f"the reference {reference!r} is not a list of finite numbers, one for each cost")
    if not len(costs):
        return 0.0
    points = np.asarray(costs, float)
    if points.ndim != 2 or points.shape[1] != corner.size:
        raise ValueError(f"costs have the shape {points.shape}, expected (candidates, {corner.size}) as the reference")
    if np.isneginf(points).any():
        raise ValueError("a cost is minus infinity: the volume has no end; leave that candidate out")
    return _volume(points[(points < corner).all(axis=1)], corner)


def _volume(points: NDArray[np.float64], corner: NDArray[np.float64]) -> float:
    if not len(points):
        return 0.0
    if corner.size == 1:
        return float(corner[0] - points.min())
    points = np.unique(points, axis=0)
    points = points[front(points.tolist())]
    if corner.size == 2:  # sorted by the first cost, so the second one falls
        heights = np.append(corner[1], points[:-1, 1]) - points[:, 1]
        return float((corner[0] - points[:, 0]) @ heights)
    points = points[np.argsort(points[:, -1], kind="stable")]
    tops = np.append(points[1:, -1], corner[-1])
    slices = [
        (top - point[-1]) * _volume(points[: n + 1, :-1], corner[:-1])
        for n, (point, top) in enumerate(zip(points, tops, strict=True))
        if top > point[-1]
    ]
    return float(sum(slices))
