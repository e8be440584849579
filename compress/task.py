"""How a network is judged: its images, its metric with the protocol, its calibration inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from compress.errors import DataError
from compress.weights import sha256

if TYPE_CHECKING:
    from compress.data.labelled import Labelled
    from compress.network import Network

__all__ = ["Data", "ItemScore", "Run", "Scores", "Task", "hold_out", "refuse_shared"]

T = TypeVar("T")
_LISTS = (".json", ".txt", ".tsv", ".csv")

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""The network or a file on one input: (h, w, C) in [0, 1] to (h*scale, w*scale, C), or to (classes,)."""


@dataclass(frozen=True)
class ItemScore:
    """The score of one image, or of one class."""

    name: str
    value: float
    """In the unit of the scores: dB (capped at 100 for equal images), or per cent."""
    ssim: float | None = None
    """None where there is none: a classifier, or an image smaller than the window."""
    count: int = 1
    """How many images stand behind it; its weight in the mean."""


@dataclass(frozen=True)
class Scores:
    """The scores of a set of images under one protocol; larger is better."""

    protocol: str
    unit: str
    """``dB`` or ``%``."""
    items: tuple[ItemScore, ...]

    @property
    def mean(self) -> float:
        """Mean over all images."""
        return float(np.average([i.value for i in self.items], weights=[i.count for i in self.items]))

    @property
    def ssim(self) -> float | None:
        """Mean SSIM over the images that have one."""
        known = [i.ssim for i in self.items if i.ssim is not None]
        return float(np.mean(known)) if known else None

    @property
    def worst(self) -> ItemScore:
        """The item of the lowest value."""
        return min(self.items, key=lambda i: i.value)


class Task(Protocol):
    """One way to judge networks, on one set of images."""

    @property
    def name(self) -> str:
        """As in ``compress list tasks``."""
        ...

    @property
    def protocol(self) -> str:
        """What makes two scores comparable."""
        ...

    @property
    def metric(self) -> str:
        """Heading of the score's column, with its unit."""
        ...

    @property
    def unit(self) -> str:
        """``dB`` or ``%``."""
        ...

    @property
    def floor_name(self) -> str:
        """What a network must beat, e.g. ``bicubic``."""
        ...

    @property
    def size(self) -> int:
        """How many images it is judged on."""
        ...

    def files(self) -> list[Path]:
        """Every file that decides the numbers."""
        ...

    def training_images(self) -> Sequence[Path] | Labelled:
        """Images that a method may train on: those of the calibration, none of which is scored.

        Raises:
            UsageError: a classifier's calibration images have no labels.
        """
        ...

    def sample(self) -> NDArray[np.float32]:
        """The first input, (h, w, C) in [0, 1]."""
        ...

    def judge(self, run: Run, progress: Callable[[int], None]) -> Scores:
        """Scores of a network or a file; ``progress`` is called with the number of images done."""
        ...

    def floor(self, progress: Callable[[int], None]) -> Scores:
        """Scores of what a network must beat."""
        ...

    def calibration_inputs(self, count: int, size: int, seed: int) -> list[NDArray[np.float32]]:
        """Inputs for the ranges of a quantizer, all of one size, none of which is scored.

        Args:
            count: how many.
            size: side of a crop, for networks of any size.
            seed: decides what is cut; the same inputs for the same seed.
        """
        ...

    def held_out(self, network: Network) -> Task:
        """The same task within the calibration images: judged on some of them, calibrated on the others.

        Choices are made on it, so that the images of the report are looked at once.

        Raises:
            DataError: there are no calibration images.
        """
        ...


def hold_out(images: Sequence[T]) -> tuple[tuple[T, ...], tuple[T, ...]]:
    """(judged on, calibrated on): every fourth item, at most 16, and the rest; a single one serves for both."""
    held = tuple(images[3::4][:16]) or tuple(images[-1:])
    chosen = {id(item) for item in held}
    return held, tuple(item for item in images if id(item) not in chosen) or tuple(images)


@dataclass(frozen=True)
class Data:
    """What the user gave to judge on; None leaves it to the task."""

    evaluation: Path | None = None
    calibration: Path | None = None
    noise: float = 25.0
    """Standard deviation of the noise that restoration adds to clean images, in grey levels of 255."""


def refuse_shared(evaluation: Sequence[Path], calibration: Sequence[Path]) -> None:
    """Make sure that no picture is used for both; lists of labels and class names may be.

    Raises:
        DataError: some are, by content.
    """
    sizes = {path.stat().st_size for path in calibration}
    pictures = [path for path in evaluation if path.suffix.lower() not in _LISTS]
    candidates = [path for path in pictures if path.stat().st_size in sizes]
    known = {sha256(path) for path in calibration} if candidates else set()
    shared = [path for path in candidates if sha256(path) in known]
    if shared:
        raise DataError(
            f"{len(shared)} images are both in --data and in --calibration, e.g. {shared[0]}; "
            "keep them apart, or the scores flatter the file"
        )
