"""A written file and what is known of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from export.errors import ExportError
from export.lut.network import Tables, tables_of
from export.policy import QuantPolicy

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from torch import nn

__all__ = ["Artifact", "Card", "ExportSpec", "Format", "Image", "Session", "cut_to", "digest"]

Image = NDArray[np.float32]
"""(H, W, C) in [0, 1]; as an output also (K,), the logits of a classifier."""


@dataclass(frozen=True)
class Card:
    """What a file of ours says about itself, so that it can be run and judged anywhere."""

    model: str
    scale: int
    channels: int
    halo: int | None
    """Receptive-field radius in input pixels; None: the network looks at the whole image."""
    dtype: str
    """``float32`` or ``int8``."""
    task: str = "super-resolution"
    """What it was made for; a name of ``compress list tasks``."""
    unit: int = 1
    """Sides of an input, and the places where tiles may start, are multiples of this."""
    classes: int | None = None
    """Length of the output vector; None: an image comes out."""
    crop_share: float = 0.875
    """Classification: the part of a photograph's shorter side that the centre crop keeps."""
    layout: Literal["nhwc", "nchw"] = "nhwc"
    """Order of a TFLite file's input; other formats are NCHW."""
    fixed_size: bool = False
    """Whether the file is right at its declared size only, although its runtime may take others."""

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps({"edgepress": 1, **asdict(self)}, sort_keys=True)

    @staticmethod
    def from_json(text: str, path: Path) -> Card:
        """The card of a file.

        Raises:
            ExportError: the text is not a card of a version this program knows.
        """
        import pydantic

        try:
            values = json.loads(text)
            if values.pop("edgepress") != 1:
                raise ValueError("unknown version")
            card: Card = _reader().validate_json(json.dumps(vars(Card(**values))), strict=True)
            if min(card.scale, card.channels, card.unit) < 1 or (card.halo or 0) < 0:
                raise ValueError("a scale, channels or unit below 1, or a halo below 0")
            return card
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}"
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = str(error)
        raise ExportError(f"{path}: its edgepress card cannot be read ({reason}); export the file again")


@cache
def _reader() -> TypeAdapter[Card]:
    """Checks the types of a card's fields."""
    from pydantic import TypeAdapter

    return TypeAdapter(Card)


@dataclass(frozen=True)
class ExportSpec:
    """Everything a format needs to write a file."""

    module: nn.Module
    """(N, channels, H, W) in [0, 1] to (N, channels, scale*H, scale*W), or to (N, classes)."""
    card: Card
    input_size: tuple[int, int]
    """(height, width) declared in formats whose files have a fixed size."""
    policy: QuantPolicy | None = None
    """None writes float32."""
    calibration: Sequence[Image] = ()
    """Inputs for the activation ranges, all of one size (H, W, C)."""
    graph: Path | None = None
    """The ONNX file that the network came as, for the formats that take it as it is."""
    progress: Callable[[str, int], None] = lambda what, done: None
    """Told what long work is going on, and how many parts of it are done; may raise to stop it."""

    @property
    def free_size(self) -> bool:
        """Whether height and width may stay open in the file."""
        return self.card.classes is None

    @property
    def tables(self) -> Tables | None:
        """The look-up tables that the module consists of; None for every other network."""
        return tables_of(self.module)

    def calibration_digest(self) -> str:
        """Of the calibration inputs' values."""
        total = hashlib.sha256()
        for image in self.calibration:
            total.update(repr(image.shape).encode())
            total.update(np.ascontiguousarray(image).tobytes())
        return total.hexdigest()

    def inputs_of_size(self, size: tuple[int, int]) -> list[Image]:
        """The calibration inputs, cut or mirrored on to a (height, width)."""
        return [cut_to(image, *size) for image in self.calibration]


def cut_to(image: Image, height: int, width: int) -> Image:
    """The image (H, W, C) cut, or mirrored on at the bottom and the right, to a size."""
    extra = [(0, max(0, height - image.shape[0])), (0, max(0, width - image.shape[1])), (0, 0)]
    return np.pad(image, extra, mode="symmetric")[:height, :width].astype(np.float32)


class Session(Protocol):
    """An opened file, ready to run."""

    input_size: tuple[int, int] | None
    """The only (height, width) it takes; None: any."""

    def run(self, image: Image) -> Image:
        """(H, W, C) to (scale*H, scale*W, C) or (classes,), with the file's own (de)quantization at its ends."""
        ...

    def prepare(self, image: Image) -> Prepared:
        """A call that runs the network on this input and nothing else, for timing."""
        ...


class Prepared(Protocol):
    """Runs the network once on the input it was prepared with."""

    def __call__(self) -> object:
        """Run once."""
        ...


class Format(Protocol):
    """What a module of ``export.formats`` offers."""

    SUFFIX: str
    RUNTIME: str
    """Distribution whose version decides the numbers."""
    RUNTIME_MODULE: str
    """What importing the runtime imports."""

    @staticmethod
    def write(spec: ExportSpec, path: Path) -> None:
        """Write the file."""
        ...

    @staticmethod
    def open(path: Path, threads: int) -> Session:
        """Open a file of this format."""
        ...

    @staticmethod
    def read_card(path: Path) -> str | None:
        """The card's text; None for files that are not ours."""
        ...

    @staticmethod
    def operators(path: Path) -> Mapping[str, int]:
        """Operator name to count."""
        ...


@dataclass(frozen=True)
class Artifact:
    """A file on disk (OpenVINO: two), with its hash and size."""

    folder: str
    """Relative to the run folder, or absolute."""
    files: tuple[str, ...]
    """The main file first."""
    format: str
    dtype: str
    sha256: tuple[str, ...]
    file_bytes: int
    operators: Mapping[str, int]

    @property
    def name(self) -> str:
        """``format-dtype``, e.g. ``tflite-int8``."""
        return f"{self.format}-{self.dtype}"

    def path(self, root: Path) -> Path:
        """The main file."""
        return root / self.folder / self.files[0]

    def intact(self, root: Path) -> bool:
        """Whether all files are there and unchanged."""
        paths = [root / self.folder / name for name in self.files]
        return all(p.is_file() for p in paths) and self.sha256 == tuple(digest(p) for p in paths)


def digest(path: Path) -> str:
    """The file's SHA-256, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
