"""Does a file give the network's numbers?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from export.artifact import Image

__all__ = ["FLOAT_TOLERANCE", "Parity", "compare"]

FLOAT_TOLERANCE = 1e-4
"""Largest difference allowed to a float32 file, relative to the peak: a fortieth of one grey level."""


_BROKEN = 1e9  # finite, because JSON knows no infinity


@dataclass(frozen=True)
class Parity:
    """How far a file's output is from the network's on one input."""

    max_abs: float
    """Largest difference; 1e9 where an output is not finite."""
    psnr_db: float
    """Of the file's output against the network's, at that peak; capped at 200 for equal outputs."""
    peak: float = 1.0
    """Largest magnitude of the network's output, at least 1 (an image's white)."""

    @property
    def as_float(self) -> bool:
        """Whether it is as close as float32 files must be."""
        return self.max_abs <= FLOAT_TOLERANCE * self.peak


def compare(output: Image, expected: Image) -> Parity:
    """Compare two outputs of one shape; a value that is not finite counts as 1e9.

    Raises:
        ValueError: the shapes differ.
    """
    if output.shape != expected.shape:
        raise ValueError(f"output is {output.shape}, expected {expected.shape}")
    if not (np.isfinite(output).all() and np.isfinite(expected).all()):
        return Parity(_BROKEN, -_BROKEN)
    difference = np.abs(output.astype(np.float64) - expected)
    peak = max(1.0, float(np.abs(expected).max()))
    error = float(np.mean((difference / peak) ** 2))
    return Parity(float(difference.max()), min(200.0, -10.0 * float(np.log10(error))) if error else 200.0, peak)
