"""What a module of unknown make takes and gives, found by running it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.errors import UsageError
from compress.network import CLASSIFICATION, RESTORATION, SUPER_RESOLUTION

if TYPE_CHECKING:
    from torch import nn

__all__ = ["SIZES", "Contract", "contract"]

SIZES = ((64, 64), (224, 224), (32, 32), (256, 256), (28, 28))
"""Inputs (height, width) that are tried on a module that does not state its own."""


@dataclass(frozen=True)
class Contract:
    """What a module takes and gives."""

    task: str
    scale: int
    channels: int
    classes: int | None
    input_size: tuple[int, int] | None
    """The size a classifier was probed at; None: any."""


def contract(module: nn.Module, name: str, sizes: Sequence[tuple[int, int]] = (), task: str | None = None) -> Contract:
    """Run a module on made-up images until one fits.

    Args:
        module: in evaluation mode.
        name: for messages.
        sizes: inputs (height, width) to try, the likeliest first; usual ones otherwise.
        task: what the user says it is for; None: told by the output.

    Raises:
        UsageError: no usual input runs, or the output is neither an image nor a vector, or not what ``task`` says.
    """
    import torch

    failures = []
    for size in sizes or SIZES:
        for channels in (3, 1):
            try:
                with torch.inference_mode():
                    output = module(torch.full((1, channels, *size), 0.5))
            except Exception as error:  # a foreign module raises anything
                reason = (str(error).strip() or type(error).__name__).splitlines()[-1][:120]
                failures.append(f"{channels}x{size[0]}x{size[1]}: {reason}")
                continue
            return _read(output, size, channels, name, task)
    raise UsageError(
        f"{name} runs on none of the inputs that were tried ({'; '.join(failures[:3])}); give the module an attribute "
        "input_size = (height, width), or wrap it so that it takes (1, 3, H, W) or (1, 1, H, W)"
    )


def _read(output: object, size: tuple[int, int], channels: int, name: str, task: str | None) -> Contract:
    import torch

    shape = tuple(output.shape) if isinstance(output, torch.Tensor) else None
    found: Contract | None = None
    if shape is not None and len(shape) == 2:
        found = Contract(CLASSIFICATION, 1, channels, shape[1], size)
    elif shape is not None and len(shape) == 4 and shape[1] == channels and shape[2] % size[0] == 0:
        scale = shape[2] // size[0]
        if shape[3] == scale * size[1] and scale >= 1:
            found = Contract(SUPER_RESOLUTION if scale > 1 else RESTORATION, scale, channels, None, None)
    if found is None:
        what = f"a tensor {shape}" if shape is not None else f"a {type(output).__name__}"
        raise UsageError(
            f"{name} gives {what} for an image (1, {channels}, {size[0]}, {size[1]}), expected (1, classes) or an "
            f"image (1, {channels}, s*{size[0]}, s*{size[1]}); wrap it so that it gives one of these"
        )
    if task is not None and task != found.task:
        raise UsageError(f"--task {task}, but {name} gives {shape}, which is {found.task}; drop --task")
    return found
