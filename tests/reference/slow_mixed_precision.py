"""The best assignment by trying all of them."""

import itertools


def choose(layers, budgets, tied=()):
    """The smallest loss of all assignments that keep the budgets; ``None`` when none does."""
    names, best = list(layers), None
    for picked in itertools.product(*layers.values()):
        chosen = dict(zip(names, picked, strict=True))
        if any(len({chosen[layer].name for layer in group}) > 1 for group in tied):
            continue
        if any(sum(o.costs[b] for o in picked) > limit + 1e-9 for b, limit in budgets.items()):
            continue
        loss = sum(o.loss for o in picked)
        best = loss if best is None or loss < best else best
    return best
