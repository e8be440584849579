"""The images that a file decides otherwise than the network in float32, with both answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.data.images import to_channels
from compress.measure import through
from compress.network import Network
from compress.report.pictures import Panel, Strip, png
from compress.result import Result
from compress.tasks.classification import Classification
from export import formats
from export.receptive_field import Reach
from export.torch_session import TorchSession

__all__ = ["strips"]

_LOOKED_AT = 400  # of the evaluation images; the rest is in the scores
_SHOWN = 16
_SIDE = 160


def strips(result: Result, task: Classification, network: Network, root: Path) -> tuple[Strip, ...]:
    """Up to 16 images on which the deployed file and the network differ, those that the file got wrong first."""
    file = formats.open_file(result.deployed.artifact.path(root), result.files[0].latency.threads)
    plain, deployed = (
        task.decisions(through(session, network, Reach(None, 1)), lambda done: None, _LOOKED_AT)
        for session in (TorchSession(network.module), file)
    )
    looked_at = len(plain)
    labels = task.evaluation.labels[:looked_at]
    differ = np.flatnonzero(plain != deployed)
    order = sorted(differ, key=lambda i: (deployed[i] == labels[i], int(i)))[:_SHOWN]
    if not order:
        return ()
    names = task.classes
    panels = tuple(
        Panel(
            names[labels[i]],
            f"float32: {names[plain[i]]}; {result.deployed.artifact.name}: {names[deployed[i]]}",
            png(_shown(task.evaluation.load(int(i)))),
        )
        for i in order
    )
    return (Strip(f"Decided otherwise: {len(differ)} of the first {looked_at} images", "", panels),)


def _shown(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Square, large enough to be seen."""
    from PIL import Image

    picture = Image.fromarray(to_channels(image, 3))
    sharp = Image.Resampling.NEAREST if max(picture.size) < _SIDE else Image.Resampling.BICUBIC
    return np.asarray(picture.resize((_SIDE, _SIDE), sharp))
