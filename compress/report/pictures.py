"""Zoomed crops side by side: the reference, the floor, the network, the deployed file, and where they differ."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.data.bicubic import upscale
from compress.data.images import to_channels
from compress.evaluate import luma, to_uint8
from compress.measure import through
from compress.network import Network
from compress.result import Result
from compress.task import Run, Scores
from compress.tasks.restoration import Restoration
from compress.tasks.super_resolution import SuperResolution
from export import formats
from export.receptive_field import Reach
from export.torch_session import TorchSession

__all__ = ["Panel", "Strip", "beside", "png", "strips"]

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


def strips(result: Result, task: SuperResolution | Restoration, network: Network, root: Path) -> tuple[Strip, ...]:
    """The image that lost most from the network to the deployed file, and a typical (median) one."""
    losses = [
        plain.value - file.value for plain, file in zip(result.float32.items, result.deployed.scores.items, strict=True)
    ]
    order = sorted(range(len(losses)), key=lambda i: -losses[i])
    chosen = {order[0]: "Worst image: the largest loss", order[len(order) // 2]: "Typical image: the median loss"}
    if len(order) == 1:
        chosen = {order[0]: "The image"}
    file = formats.open_file(result.deployed.artifact.path(root), result.files[0].latency.threads)
    reach = _reach(result, root)
    runs = tuple(through(session, network, reach) for session in (TorchSession(network.module), file))
    return tuple(_strip(result, task, index, heading, runs) for index, heading in chosen.items())


def _reach(result: Result, root: Path) -> Reach:
    """How the deployed file's card says that images may be cut."""
    card = formats.read_card(result.deployed.artifact.path(root))
    return Reach(result.halo, card.unit if card is not None else 1)


def _strip(
    result: Result, task: SuperResolution | Restoration, index: int, heading: str, runs: tuple[Run, ...]
) -> Strip:
    bad, hr = (to_channels(image, task.channels) for image in task.evaluation[index].load())
    floor = upscale(bad, task.scale) if task.scale > 1 else bad
    plain, file = (to_channels(to_uint8(run(bad.astype(np.float32) / np.float32(255.0))), 3) for run in runs)
    floor, hr = to_channels(floor, 3), to_channels(hr, 3)
    difference = np.abs(luma(file) - luma(plain))
    top, left = _busiest(difference if difference.any() else np.abs(luma(file) - luma(floor)))
    window = (slice(top, top + _CROP), slice(left, left + _CROP))
    name = result.deployed.artifact.name

    def db(scores: Scores) -> str:
        return f"{scores.items[index].value:.2f} dB"

    panels = (
        Panel("whole image", f"{hr.shape[1]} x {hr.shape[0]}, crop marked", png(_marked(hr, top, left))),
        Panel("reference", "", png(_zoomed(hr[window]))),
        Panel(result.floor_name, db(result.floor), png(_zoomed(floor[window]))),
        Panel("torch float32", db(result.float32), png(_zoomed(plain[window]))),
        Panel(name, db(result.deployed.scores), png(_zoomed(file[window]))),
        Panel(
            "error map",
            f"{name} against float32, x{_GAIN}; at most {difference.max():.0f} of 255",
            png(_zoomed(_heat(difference[window]))),
        ),
    )
    return Strip(heading, task.evaluation[index].name, panels)


def beside(task: SuperResolution | Restoration, runs: Mapping[str, Run], heading: str) -> Strip:
    """The first image through a network and files of it, and where the files (all but the first run) differ from it.

    The crop is where the second run differs most.
    """
    bad, reference = (to_channels(image, task.channels) for image in task.evaluation[0].load())
    values = bad.astype(np.float32) / np.float32(255.0)
    seen = {title: to_channels(to_uint8(run(values)), 3) for title, run in runs.items()}
    reference = to_channels(reference, 3)
    first, *others = seen
    differences = {title: np.abs(luma(seen[title]) - luma(seen[first])) for title in others}
    top, left = _busiest(differences[others[0]])
    window = (slice(top, top + _CROP), slice(left, left + _CROP))
    panels = [
        Panel("whole image", f"{reference.shape[1]} x {reference.shape[0]}", png(_marked(reference, top, left))),
        Panel("reference", "", png(_zoomed(reference[window]))),
        *(Panel(title, "", png(_zoomed(image[window]))) for title, image in seen.items()),
    ]
    for title, difference in differences.items():
        caption = f"{title} against {first}, x{_GAIN}; at most {difference.max():.0f} of 255"
        panels.append(Panel("error map", caption, png(_zoomed(_heat(difference[window])))))
    return Strip(heading, task.evaluation[0].name, tuple(panels))


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


def png(image: Image) -> str:
    """The picture (H, W, 3) as base64 of a PNG."""
    from PIL import Image as Pillow

    buffer = io.BytesIO()
    Pillow.fromarray(image).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
