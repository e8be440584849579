"""Twins of package channels: sets instead of arrays, one unit at a time, real cuts instead of sums."""

import numpy as np
import torch

from compress.channels.surgery import cut
from compress.cost import measure


def roots(count, pairs):
    """The least number of each set, by merging sets pair by pair."""
    sets = [{i} for i in range(count)]
    for a, b in pairs:
        if sets[a] is not sets[b]:
            sets[a] |= sets[b]
            for i in sets[b]:
                sets[i] = sets[a]
    return [min(s) for s in sets]


def silenced(module, found, kept):
    """Set every number of every unit that leaves to zero, in place."""
    tensors = dict((*module.named_parameters(), *module.named_buffers()))
    with torch.no_grad():
        for name, labels in found.places.items():
            for axis, ids in labels.items():
                for place, unit in enumerate(ids.tolist()):
                    if not kept[unit]:
                        tensors[name].select(axis, place).zero_()


def chosen(module, found, scores, share, shape):
    """One unit less at a time, the least important first, until the cut network costs as little as asked for."""
    kept = found.all_kept
    whole = measure(module, shape).macs
    order = sorted((float(scores[u]), i, int(u)) for i, g in enumerate(found.groups) for u in g.units)
    for _, i, unit in order:
        if measure(cut(module, found, kept), shape).macs <= (1 - share) * whole:
            break
        if kept[found.groups[i].units].sum() > 1:
            kept[unit] = False
    return kept


def sampled_scores(module, found, x, seed, measure):
    """Taylor and Fisher of one input, unit by unit and weight by weight."""
    random = torch.Generator().manual_seed(seed)
    output = module(x)
    (output * torch.randn(output.shape, generator=random)).sum().backward()
    total = np.zeros(found.count)
    for unit in {int(u) for group in found.groups for u in group.units}:
        products = []
        for name, parameter in module.named_parameters():
            for axis, ids in found.places[name].items():
                if axis == 0:  # of convolutions and linear layers: what they make
                    for place in np.flatnonzero(ids == unit).tolist():
                        products += (parameter.grad * parameter).select(0, place).flatten().tolist()
        total[unit] = sum(products) ** 2 if measure == "taylor" else sum(p * p for p in products) / 2
    return total
