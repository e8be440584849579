"""Zoomed crops side by side: the reference, bicubic, the network, the deployed file, and where they differ."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.evaluate import luma, to_uint8
from compress.measure import Bicubic
from compress.registry import MODELS
from compress.result import Result
from compress.task import Task
from export import formats, tiling
from export.torch_session import TorchSession

__all__ = ["Panel", "Strip", "strips"]

_CROP = 96  # HR pixels a side
_ZOOM = 3
_GAIN = 8  # the error map shows differences this many times enlarged

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Panel:
    """One picture of a strip."""

    title: str
    caption: str
    png: str
    """base64."""


@dataclass(frozen=True)
class Strip:
    """One image, seen through everything."""

    heading: str
    name: str
    panels: tuple[Panel, ...]


def strips(result: Result, task: Task, root: Path) -> tuple[Strip, ...]:
    """The image that lost most from the network to the deployed file, and a typical (median) one."""
    losses = [
        plain.psnr - file.psnr for plain, file in zip(result.float32.images, result.deployed.scores.images, strict=True)
    ]
    order = sorted(range(len(losses)), key=lambda i: -losses[i])
    chosen = {order[0]: "Worst image: the largest loss", order[len(order) // 2]: "Typical image: the median loss"}
    if len(order) == 1:
        chosen = {order[0]: "The image"}
    network = MODELS[result.options.model](result.options.weights, result.options.scale)
    file = formats.open_file(result.deployed.artifact.path(root), result.files[0].latency.threads)
    plain = TorchSession(network.module)

    def through(session: object, halo: int | None) -> Callable[[NDArray[np.float32]], Image]:
        return lambda image: to_uint8(tiling.enlarge(session, image, result.scale, halo))  # type: ignore[arg-type]

    enlargers = (
        through(Bicubic(result.scale), None),
        through(plain, result.halo),
        through(file, result.halo),
    )
    return tuple(_strip(result, task, index, heading, enlargers) for index, heading in chosen.items())


def _strip(
    result: Result,
    task: Task,
    index: int,
    heading: str,
    enlargers: tuple[Callable[[NDArray[np.float32]], Image], ...],
) -> Strip:
    lr, hr = task.evaluation[index].load()
    bicubic, plain, file = (enlarge(lr.astype(np.float32) / np.float32(255.0)) for enlarge in enlargers)
    difference = np.abs(luma(file) - luma(plain))
    top, left = _busiest(difference)
    window = (slice(top, top + _CROP), slice(left, left + _CROP))
    name = result.deployed.artifact.name

    def db(scores: object) -> str:
        return f"{scores.images[index].psnr:.2f} dB"  # type: ignore[attr-defined]

    panels = (
        Panel("whole image", f"{hr.shape[1]} x {hr.shape[0]}, crop marked", _png(_marked(hr, top, left))),
        Panel("reference", "HR", _png(_zoomed(hr[window]))),
        Panel("bicubic", db(result.bicubic), _png(_zoomed(bicubic[window]))),
        Panel("torch float32", db(result.float32), _png(_zoomed(plain[window]))),
        Panel(name, db(result.deployed.scores), _png(_zoomed(file[window]))),
        Panel(
            "error map",
            f"{name} against float32, x{_GAIN}; at most {difference.max():.0f} of 255",
            _png(_zoomed(_heat(difference[window]))),
        ),
    )
    return Strip(heading, task.evaluation[index].name, panels)


def _busiest(difference: NDArray[np.float64]) -> tuple[int, int]:
    """Top left of the crop window with the largest summed difference."""
    sums = np.pad(difference.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    h, w = (min(_CROP, side) for side in difference.shape)
    windows = sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]
    row, column = np.unravel_index(int(windows.argmax()), windows.shape)
    return int(row), int(column)


def _zoomed(crop: Image) -> Image:
    return crop.repeat(_ZOOM, axis=0).repeat(_ZOOM, axis=1)


def _heat(difference: NDArray[np.float64]) -> Image:
    from matplotlib import colormaps

    shown = colormaps["inferno"](np.clip(difference * _GAIN / 255.0, 0.0, 1.0))[..., :3]
    return np.asarray(shown * 255.0 + 0.5, np.uint8)


def _marked(hr: Image, top: int, left: int) -> Image:
    """The image at the height of a panel, the window drawn in."""
    from PIL import Image as Pillow
    from PIL import ImageDraw

    picture = Pillow.fromarray(hr)
    side = _CROP * _ZOOM
    factor = side / max(picture.size)
    picture = picture.resize((max(1, round(picture.width * factor)), max(1, round(picture.height * factor))))
    box = [v * factor for v in (left, top, left + _CROP, top + _CROP)]
    draw = ImageDraw.Draw(picture)
    draw.rectangle(box, outline=(0, 0, 0), width=4)
    draw.rectangle([box[0] + 1, box[1] + 1, box[2] - 1, box[3] - 1], outline=(255, 255, 255), width=2)
    return np.asarray(picture)


def _png(image: Image) -> str:
    from PIL import Image as Pillow

    buffer = io.BytesIO()
    Pillow.fromarray(image).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
