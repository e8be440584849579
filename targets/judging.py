"""How good latency predictions are: errors, ranks, and intervals that hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Score", "half_width", "held", "score", "spearman"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """Of one device, runtime and dtype, every network predicted without itself."""

    networks: int
    median_error: float
    """Of |predicted / measured - 1|."""
    within_10: float
    """Share of networks within 10 %."""
    within_20: float
    spearman: float
    coverage: float | None
    """Share of networks inside their 90 % interval; None: too few networks for one."""


def half_width(residuals: Array, share: float = 0.9) -> float | None:
    """Half the width of a conformal interval, in logarithms.

    The ceil((n + 1) share)-th smallest absolute residual of n networks (Lei et al., arXiv:1604.04173, algorithm 2);
    None where n is too small for one.
    """
    place = math.ceil((len(residuals) + 1) * share)
    return float(np.sort(np.abs(residuals))[place - 1]) if place <= len(residuals) else None


def held(residuals: Array) -> float | None:
    """Share of networks inside the interval that the others give."""
    inside = []
    for place, residual in enumerate(residuals):
        width = half_width(np.delete(residuals, place))
        if width is None:
            return None
        inside.append(abs(residual) <= width)
    return float(np.mean(inside)) if inside else None


def spearman(one: Sequence[float] | Array, two: Sequence[float] | Array) -> float:
    """Correlation of ranks, ties at their mean rank."""
    first, second = _ranks(np.asarray(one, float)), _ranks(np.asarray(two, float))
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: Array) -> Array:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[place], float)


def score(predicted: Sequence[float], measured: Sequence[float]) -> Score:
    """Judge predictions, each made without its network."""
    guess, truth = np.asarray(predicted, float), np.asarray(measured, float)
    errors = np.abs(guess / truth - 1)
    return Score(
        networks=len(truth),
        median_error=float(np.median(errors)),
        within_10=float(np.mean(errors <= 0.1)),
        within_20=float(np.mean(errors <= 0.2)),
        spearman=spearman(guess, truth),
        coverage=held(np.log(truth / guess)),
    )
