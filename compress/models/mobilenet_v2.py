"""MobileNetV2 (Sandler et al., CVPR 2018, arXiv:1801.04381).

Names of tensors are torchvision's, whose checkpoints load.  Small images (``input_size`` up to 64) get the stem
that is usual on CIFAR: the first convolution and the first stage that would halve the image do not.  Tensors do
not tell the two apart, so the network for small images carries one more, ``input_side``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

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

__all__ = ["MobileNetV2", "build", "from_state"]

_TITLE = "MobileNetV2"
_STAGES = (  # arXiv:1801.04381, table 2: expansion, channels, blocks, stride
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_STEM, _HEAD = 32, 1280


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU6."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    )


class _Block(nn.Module):
    """The inverted residual: widen, filter each channel, narrow without an activation (section 3.3)."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.conv = nn.Sequential(
            *([_conv(inputs, inner, 1)] if expansion > 1 else []),
            _conv(inner, inner, 3, stride, inner),
            nn.Conv2d(inner, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, ceil(H / stride), ceil(W / stride))."""
        y: Tensor = self.conv(x)
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """MobileNetV2.

    Args:
        widths: channels of the stem, of the seven stages and of the last convolution.
        classes: length of the output.
        channels: of the input.
        side: of the images that the strides are made for; up to 64 it halves them three times, else five times.
        dropout: share of the pooled features that training drops.
    """

    def __init__(
        self, widths: Sequence[int], classes: int, channels: int = 3, side: int = LARGE_SIDE, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.classes, self.channels, self.input_size = classes, channels, (side, side)
        keep_side(self, side)
        self.normalize = Normalize(IMAGENET, channels)
        small = side <= SMALL_SIDE
        layers: list[nn.Module] = [_conv(channels, widths[0], 3, 1 if small else 2)]
        for number, (expansion, _, blocks, stride) in enumerate(_STAGES):
            inputs, outputs = widths[number], widths[number + 1]
            stride = 1 if small and number == 1 else stride
            layers.append(_Block(inputs, outputs, stride, expansion))
            layers.extend(_Block(outputs, outputs, 1, expansion) for _ in range(blocks - 1))
        self.features = nn.Sequential(*layers, _conv(widths[-2], widths[-1], 1))
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(widths[-1], classes))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
            elif isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, 0.0, 0.01)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] to logits (N, classes)."""
        x = self.features(self.normalize(x))
        logits: Tensor = self.classifier(x.mean((2, 3), keepdim=True).flatten(1))
        return logits


def _rounded(channels: float) -> int:
    """The nearest multiple of 8 that is at least 8 and takes away less than a tenth (the authors' code)."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def _narrowing() -> list[str]:
    """Names of the last convolution's weight in each stage."""
    names, block = [], 0
    for expansion, _, blocks, _ in _STAGES:
        block += blocks
        names.append(f"features.{block}.conv.{2 if expansion > 1 else 1}.weight")
    return names


def from_state(state: Mapping[str, Tensor], path: Path) -> MobileNetV2:
    """The network whose widths, classes and stem are read off the tensors.

    Raises:
        WeightsError: these are not MobileNetV2 weights.
    """
    stem, *stages, head = names = ["features.0.0.weight", *_narrowing(), "features.18.0.weight"]
    found = shapes(state, {**dict.fromkeys(names, 4), "classifier.1.weight": 2}, _TITLE, path)
    side = side_in(state)
    module = MobileNetV2(
        [found[name][0] for name in (stem, *stages, head)], found["classifier.1.weight"][0], found[stem][1], side
    )
    load_into(module, with_counters(state), path)
    return module.eval()


def build(
    classes: int = 1000, channels: int = 3, width: float = 1.0, input_size: int = LARGE_SIDE, dropout: float = 0.2
) -> nn.Module:
    """A fresh network, all its widths multiplied by ``width``; the last convolution's never below 1280."""
    widths = [_rounded(width * n) for n in (_STEM, *(stage[1] for stage in _STAGES))]
    head = _rounded(_HEAD * max(1.0, width))
    return MobileNetV2([*widths, head], classes, channels, input_size, dropout).train()


MODELS.add("mobilenet-v2")(
    Family(
        title="MobileNetV2, any width, for photographs or 32x32 images (CVPR 2018, arXiv:1801.04381)",
        task=CLASSIFICATION,
        build=build,
        from_state=from_state,
        marks=("features.0.0.weight", "features.1.conv.1.weight", "features.17.conv.2.weight", "classifier.1.weight"),
        input_size=(LARGE_SIDE, LARGE_SIDE),
    )
)
