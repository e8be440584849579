"""Ranges of activations from calibration inputs, and the grids that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.graph.ir import Graph, Grid, Op

__all__ = ["Histogram", "clip", "collect", "grid_of", "set_ranges"]

BINS = 2048
_CHUNK = 8  # inputs at a time, so that large images fit


@dataclass
class Histogram:
    """Counts of a tensor's values between its smallest and its largest."""

    low: float
    high: float
    counts: Tensor
    """(BINS,)."""

    @property
    def centres(self) -> Tensor:
        """Values that stand for the bins."""
        step = (self.high - self.low) / len(self.counts)
        return self.low + (torch.arange(len(self.counts)) + 0.5) * step


def collect(graph: Graph, images: Tensor) -> dict[str, Histogram]:
    """Histograms of every tensor that has a grid, from the float values of the inputs (N, ...).

    One pass: each few inputs give a histogram between their own extremes, and these are added up between the
    extremes of all, which moves no value by more than a bin.
    """
    wanted = {n for names in graph.activations().values() for n in names}
    parts: dict[str, list[Histogram]] = {}
    for name, value in _values(graph, images, wanted):
        low, high = float(value.min()), float(value.max())
        high = max(high, low + 1e-9)
        parts.setdefault(name, []).append(Histogram(low, high, torch.histc(value, BINS, low, high)))
    return {name: _sum(found) for name, found in parts.items()}


def _sum(parts: Sequence[Histogram]) -> Histogram:
    low, high = min(p.low for p in parts), max(p.high for p in parts)
    counts = torch.zeros(BINS)
    for part in parts:
        places = ((part.centres - low) / (high - low) * BINS).long().clamp(0, BINS - 1)
        counts.index_add_(0, places, part.counts)
    return Histogram(low, high, counts)


def _values(graph: Graph, images: Tensor, wanted: Collection[str]) -> Iterator[tuple[str, Tensor]]:
    """The float values of some tensors, a few inputs at a time."""
    with torch.no_grad():
        for chunk in torch.split(images, _CHUNK):
            values: dict[str, Tensor] = {}
            walk = graph.walk(values, chunk, quantized=False)
            if graph.input in wanted:
                yield graph.input, chunk
            for op in walk:
                if op.output in wanted:
                    yield op.output, values[op.output]


def grid_of(low: float, high: float, like: Grid, scheme: str = "asymmetric") -> Grid:
    """The grid whose integers cover [low, high] and zero.

    Args:
        low: smallest value.
        high: largest value.
        like: gives the integers.
        scheme: ``asymmetric``; ``symmetric`` about zero; ``symmetric-uint8``: from zero on where no value is
            negative, else symmetric; ``power-of-two``: symmetric, the scale rounded up to a power of two.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    steps = like.high - like.low
    if scheme == "asymmetric" or (scheme == "symmetric-uint8" and low >= 0):
        scale = max(high - low, 1e-9) / steps
        zero = round(like.low - low / scale)
        zero = min(max(zero, like.low), like.high)
    else:
        scale = max(-low, high, 1e-9) / ((steps - 1) / 2)
        zero = like.low + (steps + 1) // 2
        if scheme == "power-of-two":
            scale = 2.0 ** float(torch.ceil(torch.log2(torch.tensor(scale))))
    return Grid(torch.tensor(scale, dtype=torch.float32), torch.tensor(float(zero)), like.low, like.high)


def clip(histogram: Histogram, method: str, like: Grid, see: Callable[[Tensor], Tensor]) -> tuple[float, float]:
    """The range that a method keeps.

    Args:
        histogram: of the tensor's values.
        method: ``min-max``; ``percentile-P``: all but the (100 - P) % farthest out; ``mse``: least squared error
            of what follows; ``density``: DBDC of PTQ4SR (Tu et al., CVPR 2023), the emptier end goes first.
        like: gives the number of integers.
        see: what is computed of each single value afterwards, stacked; its error counts.
    """
    if method == "min-max":
        return histogram.low, histogram.high
    if method.startswith("percentile-"):
        return _percentile(histogram, (100.0 - float(method.removeprefix("percentile-"))) / 100.0)
    if method == "density":
        return _density(histogram, 1e-5)
    if method == "kl":
        return _divergence(histogram, like.high - like.low)
    return _least_error(histogram, like, see)


def _percentile(histogram: Histogram, share: float) -> tuple[float, float]:
    mass = histogram.counts.double().cumsum(0) / histogram.counts.double().sum()
    step = (histogram.high - histogram.low) / BINS
    first = int(torch.searchsorted(mass, share / 2))
    last = int(torch.searchsorted(mass, 1 - share / 2))
    return histogram.low + first * step, histogram.low + min(last + 1, BINS) * step


def _density(histogram: Histogram, share: float) -> tuple[float, float]:
    counts = histogram.counts.tolist()
    left, right, dropped, most = 0, BINS - 1, 0.0, share * sum(counts)
    while left < right:
        smaller = min(counts[left], counts[right])
        if dropped + smaller > most:
            break
        dropped += smaller
        if counts[left] <= counts[right]:
            left += 1
        else:
            right -= 1
    step = (histogram.high - histogram.low) / BINS
    return histogram.low + left * step, histogram.low + (right + 1) * step


def _divergence(histogram: Histogram, bins: int) -> tuple[float, float]:
    """The window whose values, merged into few bins, keep the distribution best (Kullback-Leibler).

    Migacz, "8-bit inference with TensorRT", GTC 2017; as in Glow, the end that loses less mass moves in first.
    """
    counts = histogram.counts.double().numpy()
    left, right, best, window = 0, BINS, float("inf"), (0, BINS)
    while right - left >= bins:
        found = _kl(counts, left, right, bins)
        if found < best:
            best, window = found, (left, right)
        stride = 16
        if counts[left : left + stride].sum() <= counts[right - stride : right].sum():
            left += stride
        else:
            right -= stride
    step = (histogram.high - histogram.low) / BINS
    return histogram.low + window[0] * step, histogram.low + window[1] * step


def _kl(counts: NDArray[np.float64], left: int, right: int, bins: int) -> float:
    kept = counts[left:right]
    p = kept.copy()
    p[0] += counts[:left].sum()
    p[-1] += counts[right:].sum()
    group = np.arange(len(kept)) * bins // len(kept)
    filled = kept > 0
    mass, members = np.bincount(group, kept, bins), np.bincount(group, filled, bins)
    q = np.where(filled, (mass / np.maximum(members, 1))[group], 0.0)
    p, q = p / p.sum() + 1e-4 / len(p), q / max(q.sum(), 1e-300) + 1e-4 / len(p)
    return float((p * np.log(p / q)).sum())


def _least_error(histogram: Histogram, like: Grid, see: Callable[[Tensor], Tensor]) -> tuple[float, float]:
    """Both ends are shrunk in turn while that lowers the squared error of what is computed of the values."""
    centres = histogram.centres
    exact = see(centres)
    weight = histogram.counts / histogram.counts.sum()

    def error(low: float, high: float) -> float:
        return float((((see(grid_of(low, high, like).snap(centres)) - exact) ** 2).mean(0) * weight).sum())

    low, high = histogram.low, histogram.high
    best = error(low, high)
    shares = [1 - 0.02 * k for k in range(1, 50)] + [0.015, 0.01, 0.007, 0.005]
    for _ in range(2):
        for end in ("low", "high"):
            from_low, from_high = low, high
            for share in shares:
                tried = (from_low * share, high) if end == "low" else (low, from_high * share)
                found = error(*tried)
                if found < best:
                    best, (low, high) = found, tried
    return low, high


def set_ranges(graph: Graph, histograms: Mapping[str, Histogram], method: str, scheme: str = "asymmetric") -> None:
    """Give every free activation grid the range of its tensors; grids of one object take the union."""
    for grid, names in graph.activations().items():
        if grid.fixed:
            continue
        ends = [clip(histograms[n], method, grid, _seer(graph, n)) for n in names if n in histograms]
        wide = grid.high - grid.low > 255  # kernels for 16 bits know no zero point
        made = grid_of(min(e[0] for e in ends), max(e[1] for e in ends), grid, "symmetric" if wide else scheme)
        grid.scale, grid.zero = made.scale, made.zero


def _seer(graph: Graph, name: str) -> Callable[[Tensor], Tensor]:
    """What is computed from each value of a tensor alone, before it meets others: SiLU's output, not its input.

    The tensor's own value counts only where something else than such functions reads it.
    """
    order, ends = _alone(graph, name)

    def see(x: Tensor) -> Tensor:
        values = {name: x}
        for op in order:
            values[op.output] = op.run(*(values[i] if i in values else graph.originals[i] for i in op.inputs))
        return torch.stack([values[end].reshape(x.shape) for end in ends])

    return see


def _alone(graph: Graph, name: str) -> tuple[list[Op], list[str]]:
    """The operators that compute from one tensor and numbers alone, and the tensors where that ends."""
    known, order = {name}, []
    for op in graph.ops:
        tensors = [i for i in op.inputs if i not in graph.constants]
        numbers = all(graph.constants[i].numel() == 1 for i in op.inputs if i in graph.constants)
        if op.pointwise and numbers and tensors and all(i in known for i in tensors):
            known.add(op.output)
            order.append(op)
    inner = {op.output: op for op in order}
    ends = [
        n
        for n in known
        if n == graph.output or not graph.consumers(n) or any(op.output not in inner for op in graph.consumers(n))
    ]
    return order, sorted(ends)
