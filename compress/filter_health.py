"""How much of a convolution's capacity its trained kernels use.

Gavrikov & Keuper, "CNN Filter DB" (CVPR 2022, arXiv:2203.15331), section 3, with the constants of the authors'
code (paulgavrikov/CNN-Filter-DB).  A kernel, which the paper calls a filter, is the 2-D slice that joins one input
channel to one output channel; a layer has n = C_out * C_in / groups of them.

The paper calibrates 3x3 kernels only, and publishes one bound: entropy at or above the randomness threshold is
what untrained kernels have.  The bounds for "sparse" and "redundant" are ours, chosen so that few layers of the
published super-resolution networks pass them.  All of it is a hint where to prune, not a verdict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from compress.errors import WeightsError

__all__ = [
    "RANDOM_FROM",
    "REDUNDANT_BELOW",
    "SPARSE_FROM",
    "FilterHealth",
    "Word",
    "judge",
    "orthogonality",
    "random_threshold",
    "sparsity",
    "variance_entropy",
]

SPARSE_FROM = 0.25
"""Ours: from this share of dead kernels on, a layer is sparse."""
REDUNDANT_BELOW = 0.5
"""Ours: below this normalised variance entropy a layer is redundant."""
RANDOM_FROM = 1.0
"""Published: from this normalised variance entropy on, kernels are as random as untrained ones."""

_DEAD = 0.01  # of the layer's largest weight
_TAPS = 9  # of a calibrated kernel

Word = Literal["healthy", "redundant", "random", "sparse"]
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class FilterHealth:
    """The health of one convolution's kernels."""

    name: str
    kernel: tuple[int, int]
    """(height, width)."""
    kernels: int
    """n = C_out * C_in / groups."""
    sparsity: float
    """Share of dead kernels: those whose largest weight is below 1 % of the layer's largest."""
    variance_entropy: float
    """H, 0 (all kernels are multiples of one pattern) to log10(height * width)."""
    threshold: float | None
    """T_H(n), the entropy of random kernels; None unless 3x3, and for fewer than 9 kernels."""
    normalised: float | None
    """H / T_H(n); H / log10(height * width) where there is no threshold; None for 1x1."""
    normalised_clean: float | None
    """The same without the dead kernels; None where fewer than two are left, and for 1x1."""
    orthogonality: float | None
    """1: output channels are orthogonal, 0: all alike; None for one output channel."""
    word: Word | None
    """None: 1x1, whose kernels are single weights, or another size that is not calibrated, unless it is sparse."""


def judge(name: str, weight: NDArray[Any]) -> FilterHealth:
    """Measure a kernel tensor (C_out, C_in / groups, height, width).

    Raises:
        WeightsError: some of the weights are not finite.
    """
    if not np.isfinite(weight).all():
        count = int((~np.isfinite(weight)).sum())
        raise WeightsError(
            f"{name}: {count} of {weight.size} weights are not finite; the training diverged, use another checkpoint"
        )
    kernels = _kernels(weight)
    dead = _dead(kernels)
    entropy = variance_entropy(kernels)
    threshold = _threshold(len(kernels), weight.shape[2:])
    alive = kernels[~dead]
    share = float(dead.mean())
    relative = _normalised(entropy, threshold, weight.shape[2:])
    clean = None
    if len(alive) > 1:
        clean = _normalised(variance_entropy(alive), _threshold(len(alive), weight.shape[2:]), weight.shape[2:])
    return FilterHealth(
        name=name,
        kernel=(weight.shape[2], weight.shape[3]),
        kernels=len(kernels),
        sparsity=share,
        variance_entropy=entropy,
        threshold=threshold,
        normalised=relative,
        normalised_clean=clean,
        orthogonality=orthogonality(weight),
        word=_word(share, relative, threshold) if kernels.shape[1] > 1 else None,
    )


def sparsity(weight: NDArray[Any]) -> float:
    """Share of kernels i with max_j |W_ij| < 0.01 max |W|; 1 for a layer of zeros."""
    return float(_dead(_kernels(weight)).mean())


def variance_entropy(kernels: NDArray[Any]) -> float:
    """H = -sum_j v_j log10 v_j, where v_j are the shares of variance along the principal axes.

    Args:
        kernels: (n, taps).  The variances are the squared singular values of the centred rows over n - 1; with
            fewer rows than taps there are fewer of them, and H is at most log10(n - 1).

    Returns:
        0 to log10(taps); 0 where nothing varies, by 0 log 0 = 0.
    """
    rows = np.asarray(kernels, np.float64)
    if len(rows) < 2:
        return 0.0
    rows = rows / (np.abs(rows).max() or 1.0)  # shares do not depend on the scale, and tiny squares vanish
    variance = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False) ** 2 / (len(rows) - 1)
    total = float(variance.sum())
    if total < 1e-28:  # rounding of equal rows
        return 0.0
    shares = variance[variance > 0] / total
    return max(0.0, float(-(shares * np.log10(shares)).sum()))


def random_threshold(kernels: int) -> float:
    """T_H(n) = L / (1 + exp(-k (log2 n - x0))) + b: least entropy of n random 3x3 kernels.

    The paper's fit; it means nothing for fewer than 9 kernels (and is negative for 1 and 2).
    """
    return 1.2618047 / (1.0 + math.exp(-0.88767525 * (math.log2(kernels) - 2.30436435))) - 0.31050834


def orthogonality(weight: NDArray[Any]) -> float | None:
    """1 - sum |W W^T - I| / (N (N - 1)), rows scaled to length 1.

    Args:
        weight: (N, ...), one row for each output channel; a row of zeros stays one, as in the authors' code,
            and so counts 1 on the diagonal.
    """
    rows = np.asarray(weight, np.float64).reshape(len(weight), -1)
    if len(rows) < 2:
        return None
    rows = rows / (np.abs(rows).max() or 1.0)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(length == 0.0, 1.0, length)
    excess = np.abs(rows @ rows.T - np.eye(len(rows))).sum()
    return float(1.0 - excess / (len(rows) * (len(rows) - 1)))


def _kernels(weight: NDArray[Any]) -> Matrix:
    """(n, height * width)."""
    return np.asarray(weight, np.float64).reshape(weight.shape[0] * weight.shape[1], -1)


def _dead(kernels: Matrix) -> NDArray[np.bool_]:
    largest = np.abs(kernels).max(axis=1)
    bound = _DEAD * largest.max()
    return np.asarray(largest < bound if bound > 0 else np.ones(len(kernels), np.bool_))


def _threshold(kernels: int, size: Sequence[int]) -> float | None:
    return random_threshold(kernels) if tuple(size) == (3, 3) and kernels >= _TAPS else None


def _normalised(entropy: float, threshold: float | None, size: Sequence[int]) -> float | None:
    if threshold is not None:
        return entropy / threshold
    taps = math.prod(size)
    return entropy / math.log10(taps) if taps > 1 else None


def _word(share: float, relative: float | None, threshold: float | None) -> Word | None:
    if share >= SPARSE_FROM:
        return "sparse"
    if threshold is None or relative is None:
        return None
    if relative >= RANDOM_FROM:
        return "random"
    return "redundant" if relative < REDUNDANT_BELOW else "healthy"
