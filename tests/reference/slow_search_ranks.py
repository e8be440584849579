"""Mean ranks, the rank residual of one setting, regret, Kendall and Spearman, each from its definition."""

import itertools
import math


def rank(value, values):
    """1 for the highest; equal values share the mean of their places."""
    higher, equal = sum(v > value for v in values), sum(v == value for v in values)
    return higher + (equal + 1) / 2


def mean_rank(candidates, tables, power):
    """Minus the mean of rank ** power over the tables that have the candidate."""
    found = []
    for candidate in candidates:
        powers = []
        for table in tables:
            here = [table[c] for c in candidates if c in table]
            if candidate in table:
                powers.append(rank(table[candidate], here) ** power)
        found.append(-sum(powers) / len(powers) if powers else -((len(candidates) + 1) ** power))
    return found


def rank_residual(candidates, tables, references, measured, reference, power, clip, likeness, noise):
    """The posterior mean, one measurement after the other: each conditions the joint normal on it."""
    order = mean_rank(candidates, tables, power)
    profiles = []
    for table, zero in zip(tables, references, strict=True):
        drops = sorted((max(table[c] - zero, -clip) for c in candidates if c in table), reverse=True)
        profiles.append(drops + [-clip] * (len(candidates) - len(drops)))
    profile = [sum(column) / len(column) for column in zip(*profiles, strict=True)]
    mean = []
    for value in order:
        place = rank(value, order)
        low, high = math.floor(place), math.ceil(place)
        mean.append((profile[low - 1] + profile[high - 1]) / 2 if low != high else profile[low - 1])
    count = len(candidates)
    cov = [[likeness ** (5 * sum(a[k] != b[k] for k in a) / len(a)) for b in candidates] for a in candidates]
    for candidate, score in measured.items():
        at = candidates.index(candidate)
        gain = [cov[i][at] / (cov[at][at] + noise**2) for i in range(count)]
        wrong = max(score - reference, -clip) - mean[at]
        mean = [m + g * wrong for m, g in zip(mean, gain, strict=True)]
        column = [cov[at][j] for j in range(count)]
        cov = [[cov[i][j] - gain[i] * column[j] for j in range(count)] for i in range(count)]
    return mean


def kendall_b(a, b):
    """(agreeing - disagreeing pairs) over the geometric mean of the pairs that are not tied on one side."""
    agree = untied_a = untied_b = 0
    for i, j in itertools.combinations(range(len(a)), 2):
        x, y = (a[i] > a[j]) - (a[i] < a[j]), (b[i] > b[j]) - (b[i] < b[j])
        agree, untied_a, untied_b = agree + x * y, untied_a + (x != 0), untied_b + (y != 0)
    return agree / math.sqrt(untied_a * untied_b)


def spearman(a, b):
    """Pearson's correlation of the ranks."""
    x, y = [rank(v, a) for v in a], [rank(v, b) for v in b]
    mx, my = sum(x) / len(x), sum(y) / len(y)
    top = sum((p - mx) * (q - my) for p, q in zip(x, y, strict=True))
    return top / math.sqrt(sum((p - mx) ** 2 for p in x) * sum((q - my) ** 2 for q in y))
