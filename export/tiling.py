"""Whole images through files of limited size: tiles that overlap by the receptive field.

A tile is clamped *into* the image rather than padded beyond it, so that a tile at the border sees the
network's own zero padding, as the whole image would.  With a halo of the receptive-field radius every pixel
kept is computed from the very inputs it would have in one piece.  A network that looks at the whole image
(global pooling, attention) has no such radius: it runs in one piece where it can, and in overlapping tiles
where it must; :func:`compress.measure.Measurer.seam` says what that costs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from export.artifact import Image, Prepared, Session
from export.errors import ExportError

__all__ = ["MAX_TILE", "OVERLAP", "WHOLE_PIXELS", "FixedSize", "Tile", "enlarge", "plan", "round_up"]

MAX_TILE = (192, 336)
"""Largest (height, width) run in one piece; bounds peak memory whatever the image."""
WHOLE_PIXELS = 512 * 512
"""Largest input area that a network without a radius is given in one piece."""
OVERLAP = 32
"""Pixels by which tiles of a network without a radius overlap on each side (IMDN's adaptive cropping:
Hui et al., arXiv:1909.11856, section 3.3)."""


class FixedSize:
    """A session of any size that is given one size only, to see what its tiles look like."""

    def __init__(self, session: Session, size: tuple[int, int]) -> None:
        self._session = session
        self.input_size: tuple[int, int] | None = size

    def run(self, image: Image) -> Image:
        """As the session."""
        return self._session.run(image)

    def prepare(self, image: Image) -> Prepared:
        """As the session."""
        return self._session.prepare(image)


@dataclass(frozen=True)
class Tile:
    """A window of the input, and the part of it whose output is kept; all in input pixels."""

    top: int
    left: int
    height: int
    width: int
    keep_top: int
    keep_left: int
    keep_bottom: int
    keep_right: int
    """The kept rows are [keep_top, keep_bottom) of the image, columns likewise."""


def round_up(size: tuple[int, int], unit: int) -> tuple[int, int]:
    """The (height, width) enlarged to multiples of the unit."""
    return -(-size[0] // unit) * unit, -(-size[1] // unit) * unit


def _spans(length: int, tile: int, halo: int, unit: int) -> Iterator[tuple[int, int, int]]:
    """(start, keep from, keep to) of the windows that cover one axis; starts are multiples of the unit."""
    if length <= tile:
        yield 0, 0, length
        return
    done = 0
    while done < length:
        start = min(max(done - halo, 0) // unit * unit, length - tile)
        end = start + tile
        keep_to = length if end == length else end - halo
        yield start, done, keep_to
        done = keep_to


def plan(height: int, width: int, tile: tuple[int, int], halo: int, unit: int = 1) -> list[Tile]:
    """Windows of one size that cover an image; smaller only where the image is smaller.

    Args:
        height: of the image; with a unit, a multiple of it, as are the other sizes.
        width: of the image.
        tile: (height, width) of a window.
        halo: pixels at an inner edge of a window that are not kept.
        unit: windows start at multiples of this.

    Raises:
        ExportError: the tile is no larger than twice the halo, so nothing of it could be kept.
    """
    for length, side in ((height, tile[0]), (width, tile[1])):
        if length > side and side <= 2 * halo + unit - 1:
            raise ExportError(
                f"a tile of {tile[0]}x{tile[1]} keeps nothing of itself with a halo of {halo}; "
                f"export with an input of at least {4 * halo} pixels a side"
            )
    return [
        Tile(top, left, min(tile[0], height), min(tile[1], width), keep_top, keep_left, keep_bottom, keep_right)
        for top, keep_top, keep_bottom in _spans(height, tile[0], halo, unit)
        for left, keep_left, keep_right in _spans(width, tile[1], halo, unit)
    ]


def enlarge(
    session: Session,
    image: Image,
    scale: int,
    halo: int | None,
    max_tile: tuple[int, int] = MAX_TILE,
    unit: int = 1,
) -> Image:
    """Run an image of any size through a session.

    Args:
        session: the opened file.
        image: (H, W, C) in [0, 1].
        scale: output pixels a side for each input pixel.
        halo: receptive-field radius in input pixels; None: the network looks at the whole image.
        max_tile: largest piece for sessions that take any size.
        unit: sides that the network takes, and places where its tiles may start, are multiples of this.

    Returns:
        (H*scale, W*scale, C): that of the whole image, bit for bit, but for an image smaller than a file of
        fixed size or no multiple of the unit, which is mirrored on at the bottom and the right, and for a network
        without a radius on an image too large for one piece, whose tiles overlap by :data:`OVERLAP`.
    """
    height, width, _ = image.shape
    tile = session.input_size or _free_tile((height, width), halo, max_tile, unit)
    smallest = tile if session.input_size else (0, 0)
    full = tuple(max(least, side) for least, side in zip(smallest, round_up((height, width), unit), strict=True))
    if full != (height, width):
        image = np.pad(image, [(0, full[0] - height), (0, full[1] - width), (0, 0)], "symmetric")
    if halo is None:
        halo = min(OVERLAP, (min(tile) - unit) // 4)
    output: Image | None = None
    for t in plan(full[0], full[1], tile, halo, unit):
        part = session.run(np.ascontiguousarray(image[t.top : t.top + t.height, t.left : t.left + t.width]))
        if output is None:
            output = np.empty((full[0] * scale, full[1] * scale, part.shape[2]), np.float32)
        rows = slice((t.keep_top - t.top) * scale, (t.keep_bottom - t.top) * scale)
        columns = slice((t.keep_left - t.left) * scale, (t.keep_right - t.left) * scale)
        kept = (slice(t.keep_top * scale, t.keep_bottom * scale), slice(t.keep_left * scale, t.keep_right * scale))
        output[kept] = part[rows, columns]
    if output is None:
        raise ExportError("an image without pixels; give one of at least 1x1")
    return output[: height * scale, : width * scale]


def _free_tile(size: tuple[int, int], halo: int | None, max_tile: tuple[int, int], unit: int) -> tuple[int, int]:
    """The piece in which a session of any size gets the image."""
    whole = round_up(size, unit)
    if halo is None and whole[0] * whole[1] <= WHOLE_PIXELS:
        return whole
    return max(max_tile[0] // unit, 1) * unit, max(max_tile[1] // unit, 1) * unit
