"""EfficientNet-Lite0: EfficientNet-B0 (Tan and Le, ICML 2019, arXiv:1905.11946) made for integer hardware.

The authors' release (tensorflow/tpu, models/official/efficientnet/lite) takes out squeeze-and-excitation, has ReLU6
in place of Swish, and keeps stem and head at the width of B0.  The network is TensorFlow's: "SAME" padding,
batch normalisation with epsilon 1e-3, input (x - 0.5) / 0.5.  Names of tensors are timm's, whose
``tf_efficientnet_lite0`` to ``4`` load.  Its ``efficientnet_lite0.ra_in1k`` has the same names and shapes but was
trained with other padding and scaling: it loads and is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn

from compress.models._classifier import Normalize, SameConv2d, same_padding, shapes, with_counters
from compress.network import CLASSIFICATION, Family
from compress.registry import MODELS
from compress.weights import load_into

__all__ = ["EfficientNetLite", "build", "from_state"]

_TITLE = "EfficientNet-Lite"
_STAGES = (  # arXiv:1905.11946, table 1: expansion, kernel, stride, channels, blocks
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
_STEM, _HEAD = 32, 1280
_MIDDLE = 0.5  # of the input: becomes 0


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _same(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return SameConv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)


class _Separable(nn.Module):
    """Filter each channel, then mix them without an activation: the inverted residual of expansion 1."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw, self.bn1 = _same(inputs, inputs, kernel, stride, inputs), _norm(inputs)
        self.conv_pw, self.bn2 = nn.Conv2d(inputs, outputs, 1, bias=False), _norm(outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, ceil(H / stride), ceil(W / stride))."""
        y: Tensor = F.relu6(self.bn1(self.conv_dw(x)))
        y = self.bn2(self.conv_pw(y))
        return x + y if self.residual else y


class _Inverted(nn.Module):
    """The inverted residual of arXiv:1801.04381, section 3.3."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, inner: int) -> None:
        super().__init__()
        self.conv_pw, self.bn1 = nn.Conv2d(inputs, inner, 1, bias=False), _norm(inner)
        self.conv_dw, self.bn2 = _same(inner, inner, kernel, stride, inner), _norm(inner)
        self.conv_pwl, self.bn3 = nn.Conv2d(inner, outputs, 1, bias=False), _norm(outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, ceil(H / stride), ceil(W / stride))."""
        y: Tensor = F.relu6(self.bn1(self.conv_pw(x)))
        y = F.relu6(self.bn2(self.conv_dw(y)))
        y = self.bn3(self.conv_pwl(y))
        return x + y if self.residual else y


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite.

    Args:
        widths: channels of the stem, of the seven stages and of the last convolution.
        blocks: of each stage.
        classes: length of the output.
        channels: of the input.
        dropout: share of the pooled features that training drops.
    """

    def __init__(
        self, widths: Sequence[int], blocks: Sequence[int], classes: int, channels: int = 3, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.classes, self.channels = classes, channels
        self.normalize = Normalize(((_MIDDLE,) * 3, (0.5,) * 3), channels)
        self.conv_stem, self.bn1 = nn.Conv2d(channels, widths[0], 3, 2, bias=False), _norm(widths[0])
        self.blocks = nn.Sequential(
            *(_stage(number, widths[number], widths[number + 1], count) for number, count in enumerate(blocks))
        )
        self.conv_head, self.bn2 = nn.Conv2d(widths[-2], widths[-1], 1, bias=False), _norm(widths[-1])
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(widths[-1], classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):  # fan-out of one group, as in the authors' conv_kernel_initializer
                fan = layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels / layer.groups
                nn.init.normal_(layer.weight, 0.0, math.sqrt(2 / fan))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] to logits (N, classes)."""
        x = F.pad(x, same_padding(x.shape[2:], 3, 2), value=_MIDDLE)  # first, so that converters fold the scaling
        x = F.relu6(self.bn1(self.conv_stem(self.normalize(x))))
        x = F.relu6(self.bn2(self.conv_head(self.blocks(x))))
        logits: Tensor = self.classifier(self.dropout(x.mean((2, 3), keepdim=True).flatten(1)))
        return logits


def _stage(number: int, inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    expansion, kernel, first, _, _ = _STAGES[number]
    layers: list[nn.Module] = []
    for block in range(blocks):
        width, stride = (outputs, 1) if block else (inputs, first)
        if expansion == 1:
            layers.append(_Separable(width, outputs, kernel, stride))
        else:
            layers.append(_Inverted(width, outputs, kernel, stride, width * expansion))
    return nn.Sequential(*layers)


def _rounded(channels: float) -> int:
    """The nearest multiple of 8 that is at least 8 and takes away less than a tenth (the authors' round_filters)."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def from_state(state: Mapping[str, Tensor], path: Path) -> EfficientNetLite:
    """The network whose widths, depth and classes are read off the tensors.

    Raises:
        WeightsError: these are not EfficientNet-Lite weights.
    """
    last = [f"blocks.{n}.0.{'conv_pw' if stage[0] == 1 else 'conv_pwl'}.weight" for n, stage in enumerate(_STAGES)]
    names = ["conv_stem.weight", *last, "conv_head.weight"]
    found = shapes(state, dict.fromkeys(names, 4) | {"classifier.weight": 2}, _TITLE, path)
    blocks = [len({key.split(".")[2] for key in state if key.startswith(f"blocks.{n}.")}) for n in range(len(_STAGES))]
    module = EfficientNetLite(
        [found[name][0] for name in names], blocks, found["classifier.weight"][0], found["conv_stem.weight"][1]
    )
    load_into(module, with_counters(state), path)
    return module.eval()


def build(
    classes: int = 1000, channels: int = 3, width: float = 1.0, depth: float = 1.0, dropout: float = 0.2
) -> nn.Module:
    """A fresh network; ``width`` leaves stem and head as they are, ``depth`` the first and the last stage."""
    widths = [_STEM, *(_rounded(width * stage[3]) for stage in _STAGES), _HEAD]
    blocks = [
        stage[4] if n in (0, len(_STAGES) - 1) else math.ceil(depth * stage[4]) for n, stage in enumerate(_STAGES)
    ]
    return EfficientNetLite(widths, blocks, classes, channels, dropout).train()


MODELS.add("efficientnet-lite0")(
    Family(
        title="EfficientNet-Lite0, without squeeze-and-excitation (ICML 2019, arXiv:1905.11946)",
        task=CLASSIFICATION,
        build=build,
        from_state=from_state,
        marks=("conv_stem.weight", "blocks.0.0.conv_dw.weight", "blocks.6.0.conv_pwl.weight", "conv_head.weight"),
        input_size=(224, 224),
    )
)
