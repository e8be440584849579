"""Sums over one-dimensional tables, differentiable in the entries and in what is looked up.

On the CPU compiled passes do them (_separable.c), where a compiler is; elsewhere, and on a GPU, torch's own operations.
Entries are whole numbers, so that sums in float32 are exact.  The gradient along a looked-up value is the slope of the
table there: the tables are functions of whole numbers.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from compress.models._passes import at, passes, shared

__all__ = ["mixed", "windowed"]

_CODE = "_separable.c"


def mixed(x: Tensor, entries: Tensor, smooth: Tensor) -> Tensor:
    """(N, H, W, C) whole numbers 0..levels-1 to (N, H, W, O): each channel's row of its table, added up.

    Args:
        x: levels.
        entries: (C, levels, O), whole.
        smooth: the same before rounding, whose differences are the slopes.
    """
    found: Tensor = _Sums.apply(x, entries, smooth, False)  # type: ignore[no-untyped-call]
    return found


def windowed(x: Tensor, entries: Tensor, smooth: Tensor) -> Tensor:
    """(N, H+2, W+2, C) whole numbers 0..levels-1 to (N, H, W, O): values of the 3x3 windows' tables, added up.

    Args:
        x: levels with a margin of one pixel; of one channel, which all outputs read, or as many as outputs.
        entries: (9, levels, O), whole.
        smooth: the same before rounding.
    """
    found: Tensor = _Sums.apply(x, entries, smooth, True)  # type: ignore[no-untyped-call]
    return found


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, entries: Tensor, smooth: Tensor, windows: bool) -> Tensor:
        levels = x.detach().to(torch.uint8).contiguous()
        ctx.windows = windows
        ctx.save_for_backward(levels, smooth.detach())
        code = passes(_CODE) if x.device.type == "cpu" else None
        entries = entries.detach().contiguous()
        if code is None:
            return _window(levels, entries) if windows else _mix(levels, entries)
        count, height, width = _out_sides(levels, windows)
        out = torch.empty(count, height, width, entries.shape[2])
        sizes = _sizes(levels, entries, windows)
        call = code.ep_window if windows else code.ep_mix

        def work(part: int, first: int, last: int) -> None:
            span = (ctypes.c_long(first), ctypes.c_long(last))
            call(at(levels), at(entries), ctypes.byref(sizes), *span, at(out))

        shared(count, 1, work)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        levels, smooth = ctx.saved_tensors
        slopes, given = _slopes(smooth), gradients[0].contiguous()
        code = passes(_CODE) if levels.device.type == "cpu" else None
        if code is None:
            back = _window_back if ctx.windows else _mix_back
            return (*back(levels, slopes, given), None, None)
        to_entries = torch.zeros(torch.get_num_threads(), *slopes.shape)
        to_x = torch.zeros(levels.shape)
        sizes = _sizes(levels, slopes, ctx.windows)
        call = code.ep_window_back if ctx.windows else code.ep_mix_back

        def work(part: int, first: int, last: int) -> None:
            span = (ctypes.c_long(first), ctypes.c_long(last))
            call(at(levels), at(slopes), at(given), ctypes.byref(sizes), *span, at(to_entries[part]), at(to_x))

        parts = shared(len(levels), 1, work)
        return to_x, to_entries[:parts].sum(0), None, None


class _Sizes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("h", "w", "c", "levels", "o")]


def _out_sides(x: Tensor, windows: bool) -> tuple[int, int, int]:
    margin = 2 if windows else 0
    return x.shape[0], x.shape[1] - margin, x.shape[2] - margin


def _sizes(x: Tensor, entries: Tensor, windows: bool) -> _Sizes:
    _, height, width = _out_sides(x, windows)
    return _Sizes(height, width, x.shape[3], *entries.shape[1:])


def _slopes(smooth: Tensor) -> Tensor:
    """(tables, levels, O): half the difference of the neighbours; at the ends, of the last two."""
    inner = (smooth[:, 2:] - smooth[:, :-2]) / 2
    ends = smooth[:, 1:2] - smooth[:, :1], smooth[:, -1:] - smooth[:, -2:-1]
    return torch.cat([ends[0], inner, ends[1]], 1).contiguous()


def _mix(x: Tensor, entries: Tensor) -> Tensor:
    return sum((table[x[..., k].long()] for k, table in enumerate(entries)), start=torch.zeros(()))


def _mix_back(x: Tensor, slopes: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    to_x, to_entries = [], torch.zeros_like(slopes)
    for k, slope in enumerate(slopes):
        rows = x[..., k].long()
        to_x.append((slope[rows] * given).sum(-1))
        to_entries[k].index_add_(0, rows.reshape(-1), given.reshape(-1, given.shape[-1]))
    return torch.stack(to_x, -1), to_entries


def _window(x: Tensor, entries: Tensor) -> Tensor:
    _, height, width = _out_sides(x, True)
    total = torch.zeros((), device=x.device)
    for tap, table in enumerate(entries):
        total = total + _looked_up(_tap(x, tap, height, width), table)
    return total


def _tap(x: Tensor, tap: int, height: int, width: int) -> Tensor:
    return x[:, tap // 3 : tap // 3 + height, tap % 3 : tap % 3 + width]


def _looked_up(x: Tensor, table: Tensor) -> Tensor:
    """(N, H, W, C) to (N, H, W, O) by one table (levels, O)."""
    if x.shape[-1] == 1:
        return table[x[..., 0].long()]
    return table[x.long(), torch.arange(table.shape[1], device=x.device)]


def _window_back(x: Tensor, slopes: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    _, height, width = _out_sides(x, True)
    to_x, to_entries = torch.zeros(x.shape, device=x.device), torch.zeros_like(slopes)
    outputs = given.shape[-1]
    for tap, slope in enumerate(slopes):
        part = _tap(x, tap, height, width)
        along = _looked_up(part, slope) * given
        _tap(to_x, tap, height, width).add_(along.sum(-1, keepdim=True) if x.shape[-1] == 1 else along)
        places = part.long() * outputs + torch.arange(outputs, device=x.device)
        to_entries[tap].view(-1).index_add_(0, places.reshape(-1), given.reshape(-1))
    return to_x, to_entries
