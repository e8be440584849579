"""What a table network's tables read: pixels, or means over windows that are learned.

Sampled taps are AutoLUT's (Xu et al., CVPR 2025): AutoSample, a softmax over a window, and AdaRL, which mixes in the
plane that the last stage read.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn

from export.lut.network import PATTERNS, WHOLE, Source, Table, Tap

__all__ = ["Plain", "Sampled", "pattern_taps", "sampler_of"]

_QUICK = 10.0  # how many times faster than the entries samplers learn
_LEAST = 0.25  # 1/256 that a pixel of a sampler's window weighs at the least, before rounding


class Plain(nn.Module):
    """Taps that are pixels: (plane, row, column) of each."""

    def __init__(self, taps: Sequence[tuple[int, int, int]]) -> None:
        super().__init__()
        self.taps = tuple(Source(*tap) for tap in taps)
        self.register_buffer("places", torch.tensor(list(taps), dtype=torch.int16))
        self.reach = max(max(abs(tap.row), abs(tap.column)) for tap in self.taps)

    def sources(self) -> tuple[Tap, ...]:
        """As the engine takes them."""
        return tuple((tap,) for tap in self.taps)

    def forward(self, planes: Sequence[Tensor], mirrored: bool) -> Tensor:
        """Planes (B, 1, H, W) of grey levels to values (B, H, W, taps)."""
        reach = self.reach
        height, width = planes[0].shape[2:]
        padded = {tap.plane: padded_by(planes[tap.plane], reach, mirrored) for tap in self.taps}
        parts = [padded[t.plane][:, 0, reach + t.row :, reach + t.column :][:, :height, :width] for t in self.taps]
        return torch.stack(parts, -1)


class Sampled(nn.Module):
    """Four taps, each a weighted mean over a window of a plane, and of a second plane that is mixed in.

    Args:
        planes: what is read, and what the last stage read, mixed in at a learned share (AdaRL); one: nothing is.
        logits: (taps, window, window), of the pixels to the right of and below a pixel, itself included.
        shares: (taps,) of the second plane, 0 to 1.
    """

    def __init__(self, planes: Sequence[int], logits: Tensor, shares: Tensor | None = None) -> None:
        super().__init__()
        self.planes = tuple(planes)
        self.register_buffer("places", torch.tensor(self.planes, dtype=torch.int16))
        self.logits = nn.Parameter(logits / _QUICK)
        self.reach = logits.shape[1] - 1
        self.shares = nn.Parameter((logits[:, 0, 0] * 0 if shares is None else shares) / _QUICK) if planes[1:] else None

    def weights(self) -> Tensor:
        """(taps, planes, window, window): multiples of 1/256 whose sum is 1 for each tap."""
        sampler = (self.logits * _QUICK).flatten(1).softmax(1).view_as(self.logits)
        whole = sampler[:, None]
        if self.shares is not None:
            share = (self.shares * _QUICK).clamp(0, 1)[:, None, None]
            whole = torch.stack([(1 - share) * sampler, share * sampler], 1)
        return whole + (_apportioned(whole.detach()) / WHOLE - whole).detach()

    def sources(self) -> tuple[Tap, ...]:
        """As the engine takes them."""
        counts = (self.weights().detach() * WHOLE).round().long()
        return tuple(
            tuple(
                Source(self.planes[p], r, c, int(tap[p, r, c]))
                for p, r, c in tap.nonzero().tolist()  # whatever weighs nothing is not read
            )
            for tap in counts
        )

    def forward(self, planes: Sequence[Tensor], mirrored: bool) -> Tensor:
        """Planes (B, 1, H, W) of grey levels to values (B, H, W, taps)."""
        reach = self.reach
        seen = torch.cat([planes[p] for p in self.planes], 1)
        with torch.autocast(seen.device.type, enabled=False):
            padded = padded_by(seen.float(), reach, mirrored)[:, :, reach:, reach:]
            return F.conv2d(padded, self.weights()).permute(0, 2, 3, 1)


def _apportioned(weights: Tensor) -> Tensor:
    """Whole numbers of sum 256 for each tap, by the largest remainders."""
    scaled = (weights * WHOLE).flatten(1)
    counts = scaled.floor()
    missing = (WHOLE - counts.sum(1)).long()
    order = (scaled - counts).argsort(dim=1, descending=True, stable=True)
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order, places)
    return (counts + (rank < missing[:, None])).view_as(weights)


def padded_by(plane: Tensor, reach: int, mirrored: bool) -> Tensor:
    """The plane with what lies outside of it."""
    mirrored = mirrored and min(plane.shape[2:]) > reach
    return F.pad(plane, (reach,) * 4, mode="reflect" if mirrored else "replicate") if reach else plane


def pattern_taps(pattern: str, plane: int, before: int | None = None, window: int = 0) -> Plain | Sampled:
    """A pattern on a plane; with a window, sampled, and mixed with the plane ``before``."""
    places = PATTERNS[pattern]
    if window == 0:
        return Plain([(plane, row, column) for row, column in places])
    counts = torch.full((len(places), window, window), _LEAST)
    for number, (row, column) in enumerate(places):
        counts[number, row, column] = float(WHOLE)
    return Sampled((plane,) if before is None else (plane, before), counts.log())


def sampler_of(table: Table) -> Sampled:
    """The sampler of some taps; a source that weighs nothing keeps a little, so that it can be learned."""
    planes = sorted({source.plane for source in table.sources}, reverse=True)
    window = 1 + max(max(source.row, source.column) for source in table.sources)
    counts = torch.zeros(len(table.taps), len(planes), window, window)
    for number, tap in enumerate(table.taps):
        for source in tap:
            counts[number, planes.index(source.plane), source.row, source.column] += source.weight
    shares = counts[:, 1:].sum((1, 2, 3)) / WHOLE
    return Sampled(planes, counts.sum(1).clamp(min=_LEAST).log(), shares if planes[1:] else None)
