"""Networks whose values break on real images are refused before any work is put into them."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compress.errors import CompressError
from compress.network import Network
from compress.task import Task
from export import tiling
from export.artifact import cut_to

if TYPE_CHECKING:
    from torch import nn

__all__ = ["refuse_broken"]

_IMAGES = 4
_SIDE = 64


def refuse_broken(network: Network, task: Task, step: int) -> None:
    """Run some calibration inputs through a network.

    Args:
        network: to be compressed.
        task: gives the inputs.
        step: sides of images must be multiples of it.

    Raises:
        CompressError: NaN or infinite values in an output; it names the first layer that gives some.
    """
    side = tiling.round_up((_SIDE, _SIDE), step)[0]
    for number, image in enumerate(task.calibration_inputs(_IMAGES, side, 0)):
        given = cut_to(image, *network.input_size) if network.input_size else image
        found = _broken(network.module, np.ascontiguousarray(given.transpose(2, 0, 1)[None]))
        if found is not None:
            raise CompressError(
                f"network {network.name}: NaN or infinite values on calibration image {number}, first in {found}; "
                "expected finite ones from pixels in [0, 1]; check the input range, or use an earlier checkpoint"
            )


def _broken(module: nn.Module, image: NDArray[np.float32]) -> str | None:
    """The first layer whose output is not finite."""
    import torch

    broken: list[str] = []

    def look(name: str, layer: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.is_floating_point() and not output.isfinite().all():
            broken.append(f"{name} ({type(layer).__name__})" if name else "its output")

    with ExitStack() as hooks, torch.inference_mode():
        for name, layer in module.named_modules():
            hooks.enter_context(layer.register_forward_hook(partial(look, name)))
        module(torch.from_numpy(image))
    return broken[0] if broken else None
