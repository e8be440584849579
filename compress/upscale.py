"""Pictures and video through a file of ours."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from compress import y4m
from compress.data.images import SUFFIXES, list_images, read_rgb, to_channels
from compress.errors import DataError, UsageError
from compress.evaluate import to_uint8
from compress.progress import Reporter
from export import formats, tiling
from export.artifact import Card, Session
from export.files import atomic_path

__all__ = ["Enlarger", "film", "opened", "pictures"]

Pixels = NDArray[np.uint8]
_TO_RGB = np.array([[1.164383, 0, 1.596027], [1.164383, -0.391762, -0.812968], [1.164383, 2.017232, 0]], np.float32)
_TO_YUV = np.linalg.inv(_TO_RGB).astype(np.float32)
_ZERO = np.array([16, 128, 128], np.float32)
"""ITU-R BT.601, studio range, the usual one of video without a word about it."""


@dataclass(frozen=True)
class Enlarger:
    """A file, ready to enlarge images of any size."""

    card: Card
    session: Session
    planewise: bool
    """Whether it works on each channel alone, whatever that holds."""

    def image(self, pixels: Pixels) -> Pixels:
        """(H, W, C) to (scale*H, scale*W, C)."""
        given = pixels.astype(np.float32) / np.float32(255)
        return to_uint8(tiling.enlarge(self.session, given, self.card.scale, self.card.halo, unit=self.card.unit))

    def frame(self, planes: y4m.Frame) -> y4m.Frame:
        """The planes of a frame, enlarged: each by itself where the file takes it so, else by way of RGB."""
        if self.planewise or self.card.channels == 1:
            return tuple(self.image(plane[..., None])[..., 0] for plane in planes)
        if len(planes) == 1:
            return (self.image(np.repeat(planes[0][..., None], 3, 2))[..., 1],)
        height, width = planes[0].shape
        steps = [(-(-height // p.shape[0]), -(-width // p.shape[1])) for p in planes]
        whole = [p.repeat(a, 0).repeat(b, 1)[:height, :width] for p, (a, b) in zip(planes, steps, strict=True)]
        rgb = to_uint8((np.stack(whole, -1) - _ZERO) @ _TO_RGB.T / np.float32(255))
        found = self.image(rgb).astype(np.float32) @ _TO_YUV.T + _ZERO
        sizes = [(p.shape[0] * self.card.scale, p.shape[1] * self.card.scale) for p in planes]
        parts = [_shrunk(found[..., k], step, sizes[k]) for k, step in enumerate(steps)]
        return tuple(to_uint8(part / np.float32(255)) for part in parts)


def _shrunk(plane: NDArray[np.float32], step: tuple[int, int], size: tuple[int, int]) -> NDArray[np.float32]:
    """The mean of each step's pixels."""
    height, width = (n * k for n, k in zip(size, step, strict=True))
    padded = np.pad(plane, [(0, height - plane.shape[0]), (0, width - plane.shape[1])], "edge")
    means: NDArray[np.float32] = padded.reshape(size[0], step[0], size[1], step[1]).mean((1, 3))
    return means


def opened(path: Path, threads: int) -> Enlarger:
    """A file of ours.

    Raises:
        UsageError: it gives no images, or was not written by edgepress.
        ExportError: it cannot be read.
    """
    card = formats.read_card(path)
    if card is None:
        raise UsageError(f"{path} was not written by edgepress; export the network again")
    if card.classes is not None:
        raise UsageError(f"{path} is a classifier, expected a file whose output is an image")
    return Enlarger(card, formats.open_file(path, threads), formats.of_file(path) not in formats.names())


def pictures(enlarger: Enlarger, given: Path, out: Path, reporter: Reporter) -> list[Path]:
    """Enlarge an image into a file, or all images of a folder into a folder, as PNG.

    Raises:
        DataError: no images, or one that cannot be read.
        UsageError: an output that is no PNG.
    """
    if given.is_dir():
        images = list_images(given)
        if not images:
            raise DataError(f"{given}: no images ({', '.join(SUFFIXES)})")
        targets = [out / f"{image.stem}.png" for image in images]
        if len(set(targets)) < len(targets):
            raise DataError(f"{given}: several images of one name but for the suffix; rename them")
        out.mkdir(parents=True, exist_ok=True)
    else:
        images, targets = [given], [out / f"{given.stem}.png" if out.is_dir() else out]
        if targets[0].suffix.lower() != ".png":
            raise UsageError(f"{out}: pictures are written as PNG; give a name that ends in .png, or a folder")
    with reporter.bar("enlarging", len(images)) as update:
        for done, (image, target) in enumerate(zip(images, targets, strict=True), start=1):
            _picture(enlarger, image, target)
            update(done)
    return targets


def _picture(enlarger: Enlarger, given: Path, target: Path) -> None:
    from PIL import Image

    found = enlarger.image(to_channels(read_rgb(given), enlarger.card.channels))
    with atomic_path(target) as part:
        Image.fromarray(found[..., 0] if found.shape[2] == 1 else found).save(part)


def film(enlarger: Enlarger, given: BinaryIO, out: Path | BinaryIO, reporter: Reporter) -> int:
    """Enlarge a YUV4MPEG2 stream frame by frame; how many frames.

    Raises:
        DataError: no such video, or one that ends within a frame: a stream holds the frames before it, a file is not
            written.
    """
    video = y4m.header_of(given)
    done = 0
    with ExitStack() as stack:
        stream = stack.enter_context(stack.enter_context(atomic_path(out)).open("wb")) if isinstance(out, Path) else out
        y4m.write_header(stream, video.enlarged(enlarger.card.scale))
        update = stack.enter_context(reporter.bar("enlarging frames", 0))
        for done, frame in enumerate(y4m.frames(given, video), start=1):
            y4m.write_frame(stream, _fitted(enlarger.frame(frame), video.enlarged(enlarger.card.scale)))
            update(done)
    return done


def _fitted(planes: Sequence[Pixels], video: y4m.Video) -> y4m.Frame:
    """Planes of the size that the header promises: half of an odd width, enlarged, may be a pixel more."""
    return tuple(plane[:height, :width] for plane, (height, width) in zip(planes, video.planes, strict=True))
