"""Gavrikov & Keuper's quantities (arXiv:2203.15331), one number at a time; the axes from the covariance matrix."""

import math

import numpy as np


def kernels(weight: np.ndarray) -> list[list[float]]:
    """The 2-D slices of a (C_out, C_in, h, w) tensor, each as a list."""
    return [[float(v) for row in kernel for v in row] for output in weight for kernel in output]


def dead(weight: np.ndarray) -> list[bool]:
    """Of each kernel, whether all its weights are below 1 % of the layer's largest."""
    rows = kernels(weight)
    largest = max(abs(v) for row in rows for v in row)
    return [largest == 0 or all(abs(v) < 0.01 * largest for v in row) for row in rows]


def variance_entropy(rows: list[list[float]]) -> float:
    """Entropy to base 10 of the covariance matrix's eigenvalues, scaled to sum 1."""
    n, taps = len(rows), len(rows[0])
    mean = [math.fsum(row[j] for row in rows) / n for j in range(taps)]
    covariance = [
        [math.fsum((row[i] - mean[i]) * (row[j] - mean[j]) for row in rows) / (n - 1) for j in range(taps)]
        for i in range(taps)
    ]
    values = [max(0.0, float(v)) for v in np.linalg.eigvalsh(covariance)]
    total = math.fsum(values)
    if total == 0:
        return 0.0
    return -math.fsum(v / total * math.log10(v / total) for v in values if v > 0)


def orthogonality(weight: np.ndarray) -> float:
    """One minus the mean absolute cosine between different output channels (and what zero channels add)."""
    rows = [[float(v) for v in output.ravel()] for output in weight]
    total = 0.0
    for i, a in enumerate(rows):
        for j, b in enumerate(rows):
            lengths = math.sqrt(math.fsum(v * v for v in a)) * math.sqrt(math.fsum(v * v for v in b))
            cosine = math.fsum(p * q for p, q in zip(a, b, strict=True)) / lengths if lengths else 0.0
            total += abs(cosine - (1.0 if i == j else 0.0))
    return 1.0 - total / (len(rows) * (len(rows) - 1))
