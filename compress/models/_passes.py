"""C passes that training on the CPU goes through, compiled on this machine."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import resources

import torch
from torch import Tensor

from export.compiled import library
from export.errors import ExportError

__all__ = ["at", "passes", "shared"]


@cache
def passes(file: str) -> ctypes.CDLL | None:
    """The compiled functions of a file of this package; None where no compiler is, or one that refuses it."""
    text = resources.files("compress.models").joinpath(file).read_text(encoding="utf-8")
    try:
        return library({file.removeprefix("_"): text})
    except ExportError:
        return None


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, torch.get_num_threads()))


def shared(count: int, least: int, work: Callable[[int, int, int], None]) -> int:
    """Do ``work(part, first, last)`` for parts of 0..count side by side, of ``least`` each; how many parts."""
    parts = max(1, min(torch.get_num_threads(), count // least))
    ends = [count * k // parts for k in range(parts + 1)]
    if parts == 1:
        work(0, 0, count)
    else:
        list(_pool().map(work, range(parts), ends[:-1], ends[1:]))
    return parts


def at(tensor: Tensor | None) -> ctypes.c_void_p:
    """Where a tensor's values lie."""
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())
