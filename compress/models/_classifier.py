"""What the classifiers share: their input scaling, TensorFlow's padding, and how sizes are read off a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn

from compress.errors import WeightsError
from compress.network import Family

__all__ = [
    "IMAGENET",
    "LARGE_SIDE",
    "SMALL_SIDE",
    "Distinct",
    "Normalize",
    "SameConv2d",
    "keep_side",
    "same_padding",
    "shapes",
    "side_in",
    "with_counters",
]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of ImageNet's red, green and blue in [0, 1], as torchvision states them."""
LARGE_SIDE = 224
"""The side of the photographs that the published networks are made for."""
SMALL_SIDE = 64
"""The widest image whose last map, at a 32nd of it, would be smaller than 3x3."""
_SIDE_NAME = "input_side"


@dataclass(frozen=True)
class Distinct(Family):
    """A family all of whose tensors have names that another one has too, which has more."""

    absent: tuple[str, ...] = ()
    """Names of tensors of which none may be there."""

    def recognises(self, state: Mapping[str, object]) -> bool:
        """Whether tensors of these names are this family's."""
        return super().recognises(state) and not any(name in state for name in self.absent)


class Normalize(nn.Module):
    """(x - mean) / deviation for each channel; a state dict holds nothing of it.

    Args:
        statistics: means and deviations of red, green and blue.
        channels: of the input; where it is not 3, every channel gets the averages over the colours.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, statistics: tuple[Sequence[float], Sequence[float]], channels: int) -> None:
        super().__init__()
        for name, colours in zip(("mean", "deviation"), statistics, strict=True):
            values = torch.tensor(colours)
            values = values if channels == len(values) else values.mean().repeat(channels)
            self.register_buffer(name, values.view(1, channels, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] to the same shape, about zero."""
        return (x - self.mean) / self.deviation


def same_padding(size: Sequence[int], kernel: int, stride: int) -> tuple[int, int, int, int]:
    """Left, right, top and bottom of TensorFlow's "SAME": an odd rest goes to the right and below.

    The output has ceil(size / stride) rows or columns; tf.nn documents the rule under "Notes on padding".

    >>> same_padding((32, 33), kernel=3, stride=2)
    (1, 1, 0, 1)
    """
    rows, columns = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in size)
    return columns // 2, columns - columns // 2, rows // 2, rows - rows // 2


class SameConv2d(nn.Conv2d):
    """A convolution with a square kernel, padded as TensorFlow's "SAME" does."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, ceil(H / stride), ceil(W / stride))."""
        left, right, top, bottom = same_padding(x.shape[2:], self.kernel_size[0], self.stride[0])
        if left == right and top == bottom:
            return F.conv2d(x, self.weight, self.bias, self.stride, (top, left), groups=self.groups)
        x = F.pad(x, (left, right, top, bottom))
        return F.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)


def keep_side(module: nn.Module, side: int, usual: int = LARGE_SIDE) -> None:
    """Let the state dict carry the side of the images where strides differ for it and no other tensor tells."""
    module.register_buffer(_SIDE_NAME, torch.tensor(side), persistent=side != usual)


def side_in(state: Mapping[str, Tensor], usual: int = LARGE_SIDE) -> int:
    """The side that :func:`keep_side` left in a checkpoint, or the usual one."""
    return int(state[_SIDE_NAME]) if _SIDE_NAME in state else usual


def shapes(
    state: Mapping[str, Tensor], expected: Mapping[str, int], title: str, path: Path
) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors from which a network's sizes are read.

    Args:
        state: the checkpoint.
        expected: names, and how many dimensions each tensor has.
        title: the network's name.
        path: the file, for the message.

    Raises:
        WeightsError: one of them is absent or has another number of dimensions.
    """
    if _SIDE_NAME in state:
        expected = {**expected, _SIDE_NAME: 0}
    if all(name in state and state[name].dim() == dimensions for name, dimensions in expected.items()):
        return {name: tuple(state[name].shape) for name in expected}
    found = ", ".join(sorted({name.replace("/", ".").split(".", 1)[0] for name in state})[:10])
    raise WeightsError(
        f"weights {path} are not {title}'s: expected {', '.join(expected)}; found {found}; choose another --model"
    )


def with_counters(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state with batch normalisation's step counters, which checkpoints older than torch 0.4.1 lack."""
    state = dict(state)
    for name in list(state):
        if name.endswith(".running_var"):
            state.setdefault(f"{name.removesuffix('running_var')}num_batches_tracked", torch.tensor(0))
    return state
