"""Overlapping windows along one axis, as integers that an export keeps open.

Windows are taken out and put back by gathering alone, which every format has: a pixel that several windows hold
gets the mean of the first and the last of them.
"""

from __future__ import annotations

import torch

__all__ = ["Cover", "larger", "smaller"]


class Cover:
    """Windows at equal steps that cover an axis, the last one against its end.

    Args:
        length: of the axis.
        side: of a window; beyond a shorter axis the last pixel repeats.
        step: between the starts of windows, at most ``side``.
        device: of the index tensors.
    """

    def __init__(self, length: int, side: int, step: int, device: torch.device) -> None:
        end = larger(length - side, 0)
        self.side, self.count = side, (end + step - 1) // step + 1
        starts = (torch.arange(self.count, device=device) * step).clamp(max=end)
        self.inside = (starts[:, None] + torch.arange(side, device=device)).clamp(max=length - 1)
        """(count, side): the pixels of each window."""
        place = torch.arange(length, device=device)
        first = torch.div(place + (step - side), step, rounding_mode="trunc").clamp(0, self.count - 1)
        last = torch.div(place, step, rounding_mode="trunc").clamp(max=self.count - 1)
        last = torch.where(place < end, last, self.count - 1)
        self.first = first, place - (first * step).clamp(max=end)
        """Two of (length,): the first window that holds a pixel, and the pixel's place in it."""
        self.last = last, place - (last * step).clamp(max=end)
        """The same of the last one."""


def smaller(a: int, b: int) -> int:
    """The smaller of two sides, either of which an export may keep open."""
    least: int = torch.sym_min(a, b)  # type: ignore[no-untyped-call]
    return least


def larger(a: int, b: int) -> int:
    """The larger of two sides, either of which an export may keep open."""
    most: int = torch.sym_max(a, b)  # type: ignore[no-untyped-call]
    return most
