"""Functions on arrays, compiled by numba (an extra of its own): once on this machine, kept in numba's cache folder.

Import this only where numba may be missing; it raises ImportError then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numba

__all__ = ["compiled"]

Function = TypeVar("Function", bound=Callable[..., object])
_OPTIONS = {"nogil": True, "error_model": "numpy"}  # threads run side by side; no test before each division


def compiled(function: Function) -> Function:
    """A function of arrays and numbers as machine code, from the cache where that can be written."""
    try:
        made: Function = numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # no folder for a cache
        made = numba.njit(**_OPTIONS)(function)
    return made
