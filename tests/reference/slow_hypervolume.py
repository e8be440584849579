"""The dominated volume by counting the cells of the grid that the candidates' own costs span."""

import itertools
import math
from collections.abc import Sequence


def hypervolume(costs: Sequence[Sequence[float]], reference: Sequence[float]) -> float:
    """The summed size of every cell whose lower corner some candidate is no worse than."""
    points = [p for p in costs if all(c < r for c, r in zip(p, reference, strict=True))]
    edges = [sorted({*(p[axis] for p in points), reference[axis]}) for axis in range(len(reference))]
    total = 0.0
    for cell in itertools.product(*(range(len(e) - 1) for e in edges)):
        low = [e[i] for e, i in zip(edges, cell, strict=True)]
        if any(all(c <= x for c, x in zip(p, low, strict=True)) for p in points):
            total += math.prod(e[i + 1] - e[i] for e, i in zip(edges, cell, strict=True))
    return total
