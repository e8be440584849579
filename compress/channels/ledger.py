"""Indices along the axes of tensors: which go together, and which must stay."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ids", "Labels", "Ledger", "Term"]

Ids = NDArray[np.int64]
"""One number for every index along an axis."""
Labels = dict[int, Ids]
"""The numbers of a tensor's axes.  An axis that is not in it has a size that nothing changes."""


@dataclass(frozen=True)
class Term:
    """A product of sizes: a fixed factor, and axes that may lose indices."""

    factor: int
    axes: tuple[Ids, ...]

    def value(self, kept: NDArray[np.bool_]) -> int:
        """The product, for those indices that are kept."""
        total = self.factor
        for ids in self.axes:
            total *= int(kept[ids].sum())
        return total


@dataclass
class Ledger:
    """Numbers given out so far, and what is known of them."""

    count: int = 0
    pairs: list[tuple[Ids, Ids]] = field(default_factory=list)
    """Numbers that go together."""
    frozen: list[tuple[Ids, str]] = field(default_factory=list)
    """Numbers that stay, and why."""
    made: list[tuple[Ids, str]] = field(default_factory=list)
    """Channels that a layer makes, and its name."""
    work: list[Term] = field(default_factory=list)
    """Multiply-accumulates."""

    def new(self, size: int) -> Ids:
        """Numbers that nothing is known of."""
        self.count += size
        return np.arange(self.count - size, self.count, dtype=np.int64)

    def tie(self, first: Ids, second: Ids) -> None:
        """Say that indices go together, one by one."""
        if first is not second:
            a, b = np.broadcast_arrays(first, second)
            self.pairs.append((a.ravel(), b.ravel()))

    def freeze(self, ids: Ids, reason: str) -> None:
        """Say that indices stay."""
        self.frozen.append((ids, reason))

    def together(self, ids: Ids, sizes: tuple[int, ...], axis: int) -> Ids:
        """See an axis as several, of which one may lose indices; its numbers.

        An index of that one stands for a whole slice, which goes or stays as one.
        """
        grid = np.moveaxis(ids.reshape(sizes), axis, 0).reshape(sizes[axis], -1)
        self.tie(grid, grid[:, :1])
        return grid[:, 0]

    def roots(self) -> Ids:
        """For every number the least of those that go with it.

        Hook-and-shortcut (Shiloach & Vishkin, J. Algorithms 3, 1982), on whole arrays.
        """
        root = np.arange(self.count, dtype=np.int64)
        if not self.pairs:
            return root
        first, second = (np.concatenate(side) for side in zip(*self.pairs, strict=True))
        while True:
            a, b = root[first], root[second]
            if np.array_equal(a, b):
                return root
            np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
            while not np.array_equal(root, root[root]):
                root = root[root]
