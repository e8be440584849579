"""What a network of one-dimensional tables is: layers that add up tables of single values.

TinyLUT (Li et al., NeurIPS 2024) reads a k x k window as k*k tables of one pixel each ("separable mapping"), and the
pixel as its 6 high and 2 low bits; ShiftLUT (Zeng et al., arXiv:2603.00906) reads the low bits in the first layer
alone and moves every channel by whole pixels before the layers that mix channels.

A network works on one channel of uint8 pixels v.  Channels within it are integers -32..31.  A layer's output is the
mean over its tables, rounded, ties to even, plus what the layer was given, clipped to that range again.  The whole
runs on the image turned by each quarter; the four outputs, each -128..127, are turned back and added up, plus 128.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from export.errors import ExportError

__all__ = ["HIGH", "LOW", "WINDOW", "Kind", "Layer", "Separable"]

Kind = Literal["spread", "depthwise", "pointwise"]
HIGH, LOW = 64, 4
"""Levels of a pixel's high and low bits."""
WINDOW: tuple[tuple[int, int], ...] = tuple((row, column) for row in (-1, 0, 1) for column in (-1, 0, 1))
"""(row, column) of the pixels that a spatial layer reads, in the order of its tables."""
_CHANNELS = (4, 8, 16, 32, 64)
"""A mean over them is a shift."""
_MOST_LAYERS = 64
_REACH = 16


@dataclass(frozen=True, eq=False)
class Layer:
    """Tables whose mean is one channel.

    ``spread`` reads the window of the image for every channel, ``depthwise`` the window of each channel for the same
    channel, ``pointwise`` all channels at the pixel.
    """

    kind: Kind
    entries: NDArray[np.int8]
    """(tables, outputs, 64): of the value plus 32; tables are the window's pixels, or the channels read."""
    low: NDArray[np.int8] | None = None
    """(9, outputs, 4): of the low bits, which the first layer reads besides."""
    shifts: tuple[tuple[int, int], ...] = ()
    """(row, column) that each channel read lies away; () for none.  Pointwise layers only."""

    @property
    def outputs(self) -> int:
        """Channels."""
        return int(self.entries.shape[1])

    @property
    def reach(self) -> int:
        """The farthest that a value read lies from its pixel, rows or columns."""
        if self.kind != "pointwise":
            return 1
        return max((max(abs(row), abs(column)) for row, column in self.shifts), default=0)


@dataclass(frozen=True, eq=False)
class Separable:
    """A whole network: a spread layer, others, and a pointwise one of scale x scale outputs."""

    name: str
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        """Check that all parts fit.

        Raises:
            ExportError: they do not; says which and what was expected.
        """
        count = len(self.layers)
        if not 2 <= count <= _MOST_LAYERS:
            raise ExportError(f"tables {self.name}: {count} layers, expected 2 to {_MOST_LAYERS}")
        channels = self.layers[0].entries.shape[1] if self.layers[0].entries.ndim == 3 else 0
        for number, layer in enumerate(self.layers):
            for message in _wrong(layer, channels, number == 0, number == count - 1):
                raise ExportError(f"tables {self.name}, layer {number}: {message}")

    @property
    def scale(self) -> int:
        """Output pixels for each input pixel, along a side."""
        return math.isqrt(self.layers[-1].outputs)

    @property
    def channels(self) -> int:
        """Within the network."""
        return self.layers[0].outputs

    @property
    def joined(self) -> bool:
        """Whether the last layer, too, adds what it was given."""
        return self.layers[-1].outputs == self.channels

    @property
    def table_bytes(self) -> int:
        """Of all entries."""
        return sum(layer.entries.nbytes + (0 if layer.low is None else layer.low.nbytes) for layer in self.layers)

    @property
    def lookups(self) -> int:
        """For each pixel, over all rotations."""
        each = sum(math.prod(part.shape[:2]) for x in self.layers for part in (x.entries, x.low) if part is not None)
        return 4 * each

    @property
    def halo(self) -> int:
        """Radius of the receptive field in input pixels."""
        return sum(layer.reach for layer in self.layers)


def _wrong(layer: Layer, channels: int, first: bool, last: bool) -> Iterator[str]:
    """What does not fit about a layer."""
    entries, kinds = layer.entries, ("spread",) if first else ("pointwise",) if last else ("depthwise", "pointwise")
    if layer.kind not in kinds:
        yield f"{layer.kind}, expected {' or '.join(kinds)}"
        return
    if entries.dtype != np.int8 or entries.ndim != 3:
        yield f"entries {entries.dtype} {entries.shape}, expected int8 (tables, outputs, {HIGH})"
        return
    tables = channels if layer.kind == "pointwise" else len(WINDOW)
    outputs = layer.outputs if last else channels
    if entries.shape != (tables, outputs, HIGH) or channels not in _CHANNELS:
        yield f"entries {entries.shape}, expected ({tables}, {outputs}, {HIGH}), of {_CHANNELS} channels"
    elif last and outputs not in [scale**2 for scale in range(1, 9)]:
        yield f"{outputs} outputs, expected the square of a scale of 1 to 8"
    if first != (layer.low is not None):
        yield "tables of the low bits, expected in the first layer and no other"
    yield from _wrong_extras(layer, (tables, outputs, LOW), channels)


def _wrong_extras(layer: Layer, shape: tuple[int, ...], channels: int) -> Iterator[str]:
    """What does not fit about the low bits' tables, expected of a shape, and about shifts."""
    if layer.low is not None and (layer.low.dtype != np.int8 or layer.low.shape != shape):
        yield f"tables of the low bits {layer.low.dtype} {layer.low.shape}, expected int8 {shape}"
    if layer.shifts and (layer.kind != "pointwise" or len(layer.shifts) != channels):
        yield f"{len(layer.shifts)} shifts, expected {channels if layer.kind == 'pointwise' else 'none'}"
    elif layer.reach > _REACH:
        yield f"shifts by {layer.reach} pixels, expected at most {_REACH}"
