"""Fronts and crowding of NSGA-II, candidate by candidate."""

import math


def fronts(costs):
    """Take away what nobody left dominates, again and again."""

    def dominates(a, b):
        return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))

    number, level = {}, 0
    while len(number) < len(costs):
        left = [i for i in range(len(costs)) if i not in number]
        free = [i for i in left if not any(dominates(costs[j], costs[i]) for j in left)]
        number |= dict.fromkeys(free, level)
        level += 1
    return [number[i] for i in range(len(costs))]


def crowding(costs):
    """For each cost the gap between the two neighbours, as a share of its range; infinite at the ends."""
    found = [0.0] * len(costs)
    for axis in range(len(costs[0])):
        order = sorted(range(len(costs)), key=lambda i: costs[i][axis])
        spread = costs[order[-1]][axis] - costs[order[0]][axis]
        found[order[0]] = found[order[-1]] = math.inf
        for before, here, after in zip(order, order[1:], order[2:], strict=False):
            if spread:
                found[here] += (costs[after][axis] - costs[before][axis]) / spread
    return found
