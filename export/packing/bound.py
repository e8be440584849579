"""How small a coder can make weights that it takes one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["entropy_bytes", "position_bound", "value_bound"]


def entropy_bytes(counts: NDArray[np.integer]) -> float:
    """Of all symbols together, by how often each occurs: n H = -sum n_i log2(n_i / n) bits.

    Shannon, A Mathematical Theory of Communication, 1948, theorem 9.
    """
    known = counts[counts > 0].astype(np.float64)
    return float(-(known * np.log2(known / known.sum())).sum() / 8) if len(known) else 0.0


def position_bound(tensors: Sequence[tuple[int, int]]) -> float:
    """Bytes that say which weights are not zero, where each tensor's density is known: the sum of n H(p).

    Args:
        tensors: of each, how many numbers it has and how many of them are not zero.
    """
    return sum(entropy_bytes(np.array([count, total - count])) for total, count in tensors)


def value_bound(streams: Mapping[str, bytes]) -> float:
    """Bytes of the values, each plane of theirs by how often its bytes occur."""
    return sum(entropy_bytes(np.bincount(np.frombuffer(s, np.uint8), minlength=256)) for s in streams.values())
