"""ShuffleNetV2 (Ma et al., ECCV 2018, arXiv:1807.11164).

Names of tensors are torchvision's, whose checkpoints of all four widths load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from compress.models._classifier import (
    IMAGENET,
    LARGE_SIDE,
    SMALL_SIDE,
    Normalize,
    keep_side,
    shapes,
    side_in,
    with_counters,
)
from compress.network import CLASSIFICATION, Family
from compress.registry import MODELS
from compress.weights import load_into

__all__ = ["ShuffleNetV2", "build", "from_state"]

_TITLE = "ShuffleNetV2"
_STEM = 24
_BLOCKS = {"stage2": 4, "stage3": 8, "stage4": 4}
_WIDTHS = {  # arXiv:1807.11164, table 5: channels of the three stages and of the last convolution
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}


def _pointwise(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def _depthwise(channels: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False), nn.BatchNorm2d(channels)]


def _shuffled(first: Tensor, second: Tensor) -> Tensor:
    """Both (N, C, H, W) as one (N, 2C, H, W), their channels in turn: a shuffle of two groups."""
    both = torch.cat([first, second], 1)
    batch, channels, height, width = both.shape
    groups = both.reshape(batch, 2, channels // 2, height * width)  # no more than four axes: accelerators stop there
    return groups.transpose(1, 2).reshape(batch, channels, height, width)


class _Block(nn.Module):
    """The unit of figure 3, (c) with stride 1 and (d) with stride 2."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride, half = stride, outputs // 2
        if stride > 1:
            self.branch1 = nn.Sequential(*_depthwise(inputs, stride), *_pointwise(inputs, half))
        inner = inputs if stride > 1 else half
        self.branch2 = nn.Sequential(*_pointwise(inner, half), *_depthwise(half, stride), *_pointwise(half, half))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, ceil(H / stride), ceil(W / stride))."""
        if self.stride > 1:
            return _shuffled(self.branch1(x), self.branch2(x))
        kept, worked = x.chunk(2, 1)
        return _shuffled(kept, self.branch2(worked))


class ShuffleNetV2(nn.Module):
    """ShuffleNetV2.

    Args:
        stem: channels of the first convolution.
        widths: channels of the three stages, even, and of the last convolution.
        classes: length of the output.
        channels: of the input.
        side: of the images that the strides are made for; up to 64 it halves them three times, else five times.
    """

    def __init__(
        self, stem: int, widths: Sequence[int], classes: int, channels: int = 3, side: int = LARGE_SIDE
    ) -> None:
        super().__init__()
        self.classes, self.channels, self.input_size = classes, channels, (side, side)
        keep_side(self, side)
        self.normalize = Normalize(IMAGENET, channels)
        small = side <= SMALL_SIDE
        first = nn.Conv2d(channels, stem, 3, 1 if small else 2, 1, bias=False)
        self.conv1 = nn.Sequential(first, nn.BatchNorm2d(stem), nn.ReLU())
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        for inputs, outputs, (name, blocks) in zip((stem, *widths), widths, _BLOCKS.items(), strict=False):
            rest = (_Block(outputs, outputs, 1) for _ in range(blocks - 1))
            self.add_module(name, nn.Sequential(_Block(inputs, outputs, 2), *rest))
        self.conv5 = nn.Sequential(*_pointwise(widths[-2], widths[-1]))
        self.fc = nn.Linear(widths[-1], classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] to logits (N, classes)."""
        x = self.maxpool(self.conv1(self.normalize(x)))
        for name in _BLOCKS:
            x = self.get_submodule(name)(x)
        x = self.conv5(x)
        logits: Tensor = self.fc(x.mean((2, 3), keepdim=True).flatten(1))
        return logits


def from_state(state: Mapping[str, Tensor], path: Path) -> ShuffleNetV2:
    """The network whose widths and classes are read off the tensors.

    Raises:
        WeightsError: these are not ShuffleNetV2 weights.
    """
    stages = [f"{name}.0.branch2.5.weight" for name in _BLOCKS]
    names = ["conv1.0.weight", *stages, "conv5.0.weight"]
    found = shapes(state, dict.fromkeys(names, 4) | {"fc.weight": 2}, _TITLE, path)
    side = side_in(state)
    stem, channels = found["conv1.0.weight"][:2]
    widths = [2 * found[name][0] for name in stages] + [found["conv5.0.weight"][0]]
    module = ShuffleNetV2(stem, widths, found["fc.weight"][0], channels, side)
    load_into(module, with_counters(state), path)
    return module.eval()


def build(classes: int = 1000, channels: int = 3, width: float = 1.0, input_size: int = LARGE_SIDE) -> nn.Module:
    """A fresh network of one of the published widths 0.5, 1, 1.5 and 2.

    Raises:
        ValueError: another width.
    """
    if width not in _WIDTHS:
        raise ValueError(f"width {width} is none of the published {', '.join(map(str, _WIDTHS))}")
    return ShuffleNetV2(_STEM, _WIDTHS[width], classes, channels, input_size).train()


MODELS.add("shufflenet-v2")(
    Family(
        title="ShuffleNetV2 of width 0.5, 1, 1.5 or 2, for photographs or 32x32 images (ECCV 2018, arXiv:1807.11164)",
        task=CLASSIFICATION,
        build=build,
        from_state=from_state,
        marks=(
            "conv1.0.weight",
            "stage2.0.branch1.0.weight",
            "stage4.3.branch2.5.weight",
            "conv5.0.weight",
            "fc.weight",
        ),
        input_size=(LARGE_SIDE, LARGE_SIDE),
    )
)
