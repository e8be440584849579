"""Whole images through files of limited size: tiles that overlap by the receptive field.

A tile is clamped *into* the image rather than padded beyond it, so that a tile at the border sees the
network's own zero padding, as the whole image would.  With a halo of the receptive-field radius every pixel
kept is computed from the very inputs it would have in one piece.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from export.artifact import Image, Session
from export.errors import ExportError

__all__ = ["MAX_TILE", "Tile", "enlarge", "plan"]

MAX_TILE = (192, 336)
"""Largest (height, width) run in one piece; bounds peak memory whatever the image."""


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


def _spans(length: int, tile: int, halo: int) -> Iterator[tuple[int, int, int]]:
    """(start, keep from, keep to) of the windows that cover one axis."""
    if length <= tile:
        yield 0, 0, length
        return
    done = 0
    while done < length:
        start = min(max(done - halo, 0), length - tile)
        end = start + tile
        keep_to = length if end == length else end - halo
        yield start, done, keep_to
        done = keep_to


def plan(height: int, width: int, tile: tuple[int, int], halo: int) -> list[Tile]:
    """Windows of one size that cover an image; smaller only where the image is smaller.

    Raises:
        ExportError: the tile is no larger than twice the halo, so nothing of it could be kept.
    """
    for length, side in ((height, tile[0]), (width, tile[1])):
        if length > side and side <= 2 * halo:
            raise ExportError(
                f"a tile of {tile[0]}x{tile[1]} keeps nothing of itself with a halo of {halo}; "
                f"export with an input of at least {4 * halo} pixels a side"
            )
    return [
        Tile(top, left, min(tile[0], height), min(tile[1], width), keep_top, keep_left, keep_bottom, keep_right)
        for top, keep_top, keep_bottom in _spans(height, tile[0], halo)
        for left, keep_left, keep_right in _spans(width, tile[1], halo)
    ]


def enlarge(
    session: Session, image: Image, scale: int, halo: int | None, max_tile: tuple[int, int] = MAX_TILE
) -> Image:
    """Run an image of any size through a session.

    Args:
        session: the opened file.
        image: (H, W, C) in [0, 1].
        scale: output pixels a side for each input pixel.
        halo: receptive-field radius in input pixels; None (the network looks at the whole image) runs in one piece.
        max_tile: largest piece for sessions that take any size.

    Returns:
        (H*scale, W*scale, C).  A file of fixed size gets an image smaller than itself mirrored on at the bottom
        and the right, the one case in which the result is not that of the whole image.
    """
    size = session.input_size
    if size is None and halo is None:
        return session.run(image)
    tile = size or max_tile
    height, width, channels = image.shape
    if size is not None and (height < size[0] or width < size[1]):
        padded = np.pad(image, [(0, max(0, size[0] - height)), (0, max(0, size[1] - width)), (0, 0)], "symmetric")
        return enlarge(session, padded, scale, halo, max_tile)[: height * scale, : width * scale]
    if halo is None and (height, width) != tile:
        raise ExportError(
            f"a network that looks at the whole image cannot run {height}x{width} through a file of {tile}; "
            "export it at that size"
        )
    output = np.empty((height * scale, width * scale, channels), np.float32)
    for t in plan(height, width, tile, halo or 0):
        part = session.run(np.ascontiguousarray(image[t.top : t.top + t.height, t.left : t.left + t.width]))
        rows = slice((t.keep_top - t.top) * scale, (t.keep_bottom - t.top) * scale)
        columns = slice((t.keep_left - t.left) * scale, (t.keep_right - t.left) * scale)
        kept = (slice(t.keep_top * scale, t.keep_bottom * scale), slice(t.keep_left * scale, t.keep_right * scale))
        output[kept] = part[rows, columns]
    return output
