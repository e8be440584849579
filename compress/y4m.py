"""Raw video in YUV4MPEG2 frames, 8 bits a sample, read and written frame by frame.

The format is that of mjpegtools' yuv4mpeg(5).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from compress.errors import DataError

__all__ = ["Frame", "Video", "frames", "header_of", "write_frame", "write_header"]

Frame = tuple[NDArray[np.uint8], ...]
"""Y, and unless the video is grey U and V, each (H, W)."""

_SUBSAMPLED = {"420": (2, 2), "422": (1, 2), "444": (1, 1), "mono": None}
_LONGEST = 1024
_MAGIC = b"YUV4MPEG2"


@dataclass(frozen=True)
class Video:
    """What the header says."""

    width: int
    height: int
    colours: str
    """``420``, ``422``, ``444`` with what follows (``420jpeg``), or ``mono``."""
    rest: tuple[str, ...]
    """All other parameters, as they stand."""

    @property
    def planes(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of each plane."""
        step = _SUBSAMPLED[self.colours if self.colours == "mono" else self.colours[:3]]
        if step is None:
            return ((self.height, self.width),)
        part = (-(-self.height // step[0]), -(-self.width // step[1]))
        return (self.height, self.width), part, part

    def enlarged(self, scale: int) -> Video:
        """The same with more pixels."""
        return replace(self, width=self.width * scale, height=self.height * scale)


def header_of(stream: BinaryIO) -> Video:
    """The header.

    Raises:
        DataError: no such video, no size, or samples of more than 8 bits.
    """
    line = stream.readline(_LONGEST)
    parts = line.rstrip(b"\n").decode("ascii", "replace").split(" ")
    if not line.startswith(_MAGIC):
        raise DataError(f"video: begins with {line[:12]!r}, expected {_MAGIC!r}; make one by ffmpeg -f yuv4mpegpipe")
    known = {part[:1]: part[1:] for part in parts[1:] if part}
    colours = known.get("C", "420jpeg")
    plain = colours == "mono" or (colours[:3] in _SUBSAMPLED and "p1" not in colours[3:] and "alpha" not in colours)
    if not plain:
        raise DataError(f"video: samples {colours}, expected 8-bit 420, 422, 444 or mono; add -pix_fmt yuv420p")
    sides = [known.get(letter, "") for letter in "WH"]
    if not all(side.isdigit() and 1 <= int(side) <= 32768 for side in sides):
        raise DataError(f"video: width {sides[0] or 'none'}, height {sides[1] or 'none'}, expected 1 to 32768")
    rest = tuple(part for part in parts[1:] if part and part[0] not in "WHC")
    return Video(int(sides[0]), int(sides[1]), colours, rest)


def frames(stream: BinaryIO, video: Video) -> Iterator[Frame]:
    """Frame by frame until the stream ends.

    Raises:
        DataError: it ends within a frame, or something else than a frame comes.
    """
    number, size = 0, sum(height * width for height, width in video.planes)
    while line := stream.readline(_LONGEST):
        if not line.startswith(b"FRAME"):
            raise DataError(f"video: frame {number} begins with {line[:12]!r}, expected b'FRAME'")
        content = stream.read(size)
        if len(content) < size:
            raise DataError(f"video: frame {number} ends after {len(content)} of {size} bytes; {number} are whole")
        planes, at = [], 0
        for height, width in video.planes:
            planes.append(np.frombuffer(content, np.uint8, height * width, at).reshape(height, width))
            at += height * width
        yield tuple(planes)
        number += 1


def write_header(stream: BinaryIO, video: Video) -> None:
    """Begin a video."""
    words = [_MAGIC.decode(), f"W{video.width}", f"H{video.height}", *video.rest, f"C{video.colours}"]
    stream.write(" ".join(words).encode() + b"\n")


def write_frame(stream: BinaryIO, frame: Frame) -> None:
    """Add a frame."""
    stream.write(b"FRAME\n")
    for plane in frame:
        stream.write(np.ascontiguousarray(plane).tobytes())
