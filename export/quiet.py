"""Converters print pages of native logs; they belong in a file."""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["native_output_to"]


def _flush() -> None:
    """Empty the buffers of Python and of the C library, so that text lands where it was meant to."""
    sys.stdout.flush()
    sys.stderr.flush()
    ctypes.CDLL(None).fflush(None)


@contextmanager
def native_output_to(log: Path) -> Iterator[None]:
    """Append everything that this process prints, native code included, to a file; warnings are dropped."""
    _flush()
    saved = os.dup(1), os.dup(2)
    try:
        with log.open("ab") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            yield
    finally:
        _flush()
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        os.close(saved[0])
        os.close(saved[1])
