"""Functions on arrays, compiled by numba (an extra of its own): once on this machine, kept in numba's cache folder.

Import this only where numba may be missing; it raises ImportError then.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numba

__all__ = ["Workers", "compiled"]

Function = TypeVar("Function", bound=Callable[..., object])
_OPTIONS = {"nogil": True, "error_model": "numpy"}  # threads run side by side; no test before each division


def compiled(function: Function) -> Function:
    """A function of arrays and numbers as machine code, from the cache where that can be written."""
    try:
        made: Function = numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # no folder for a cache
        made = numba.njit(**_OPTIONS)(function)
    return made


class Workers:
    """Threads that stay: making them takes as long as a small image."""

    def __init__(self) -> None:
        self._pool: tuple[int, ThreadPoolExecutor] | None = None

    def run(self, work: Callable[[int], None], count: int) -> None:
        """Do parts 0 to count - 1 of some work, each in a thread; the first one in this."""
        if count > 1 and (self._pool is None or self._pool[0] < count):
            self._pool = (count, ThreadPoolExecutor(count - 1))
        others = [self._pool[1].submit(work, part) for part in range(1, count)] if self._pool else []
        work(0)
        for other in others:
            other.result()
