"""Look-up tables: one file of int8 tables, run by C compiled on this machine, or by numpy where no compiler is.

Only networks of tables can be written so.  One channel of uint8 at a time; equal integers in every engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.artifact import ExportSpec, Image, Prepared
from export.errors import ExportError

__all__ = ["RUNTIME", "RUNTIME_MODULE", "SUFFIX", "PlaneSession", "open", "operators", "read_card", "write"]

SUFFIX = ".lut"
RUNTIME = "numpy"
RUNTIME_MODULE = "numpy"


def write(spec: ExportSpec, path: Path) -> None:
    """Write the tables that the module carries as ``tables``.

    Raises:
        ExportError: it carries none.
    """
    from export.lut import container

    if spec.tables is None:
        raise ExportError(f"lut: {spec.card.model} is no network of look-up tables; take another format")
    container.write(spec.tables, path, spec.card)


class PlaneSession:
    """An engine of tables, given one channel after the other."""

    input_size: tuple[int, int] | None = None

    def __init__(self, enlarge: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]) -> None:
        self._enlarge = enlarge

    def prepare(self, image: Image) -> Prepared:
        """A call that enlarges all channels."""
        planes = _planes(image)
        return lambda: [self._enlarge(plane) for plane in planes]

    def run(self, image: Image) -> Image:
        """(H, W, C) to (scale*H, scale*W, C), rounded to levels on the way."""
        out = np.stack([self._enlarge(plane) for plane in _planes(image)], -1)
        return out.astype(np.float32) * np.float32(1 / 255)  # as a file in any other format gives it


def _planes(image: Image) -> list[NDArray[np.uint8]]:
    levels = np.floor(np.clip(image, 0.0, 1.0) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return [np.ascontiguousarray(levels[..., channel]) for channel in range(levels.shape[2])]


def open(path: Path, threads: int) -> PlaneSession:
    """The tables, ready to be looked up."""
    from export.lut import container
    from export.lut.native import runner

    return PlaneSession(runner(container.read(path), threads))


def read_card(path: Path) -> str | None:
    """The card's text."""
    from export.lut import container

    return container.read_card(path)


def operators(path: Path) -> Mapping[str, int]:
    """Look-ups for each pixel, over all rotations."""
    from export.lut import container

    return {"LOOKUP": container.read(path).lookups}
