"""ResNet-20 to ResNet-110 for CIFAR-10 (He et al., CVPR 2016, arXiv:1512.03385, section 4.2).

Three stages of 16, 32 and 64 channels with n blocks each, 6n + 2 layers in all; the shortcuts that change size
have no weights (option A).  Names of tensors and the normalisation of the input, by ImageNet's statistics, are
those of akamaster/pytorch_resnet_cifar10, whose checkpoints load.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn

from compress.errors import WeightsError
from compress.models._classifier import IMAGENET, Distinct, Normalize, shapes, with_counters
from compress.network import CLASSIFICATION
from compress.registry import MODELS
from compress.weights import load_into

__all__ = ["CifarResNet", "build", "from_state"]

_BLOCKS = {20: 3, 32: 5, 44: 7, 56: 9, 110: 18}  # layers: blocks in a stage


class _Block(nn.Module):
    """Two 3x3 convolutions and a shortcut, which takes every second pixel and adds empty channels (option A)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.before = (outputs - inputs) // 2
        self.after = outputs - inputs - self.before

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, ceil(H / stride), ceil(W / stride))."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = F.max_pool2d(x, 1, self.stride)  # a slice with steps, in one operator
        if self.before or self.after:  # a concatenation stays in any layout; the exporter transposes around a padding
            empty = torch.zeros_like(x)
            x = torch.cat([empty[:, : self.before], x, empty[:, : self.after]], 1)
        return F.relu(y + x)


class CifarResNet(nn.Module):
    """ResNet for small images.

    Args:
        blocks: n, the blocks in each of the three stages.
        width: channels of the first stage; the second has twice and the third four times as many.
        classes: length of the output.
        channels: of the input.
    """

    def __init__(self, blocks: int, width: int, classes: int, channels: int) -> None:
        super().__init__()
        self.classes, self.channels = classes, channels
        self.normalize = Normalize(IMAGENET, channels)
        self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, blocks, 1)
        self.layer2 = _stage(width, 2 * width, blocks, 2)
        self.layer3 = _stage(2 * width, 4 * width, blocks, 2)
        self.linear = nn.Linear(4 * width, classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] to logits (N, classes)."""
        x = F.relu(self.bn1(self.conv1(self.normalize(x))))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean((2, 3), keepdim=True).flatten(1))
        return logits


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    return nn.Sequential(_Block(inputs, outputs, stride), *(_Block(outputs, outputs, 1) for _ in range(blocks - 1)))


def _blocks_in(state: Mapping[str, object]) -> int:
    """Blocks in the last stage."""
    return len({name.split(".")[1] for name in state if name.startswith("layer3.")})


def from_state(state: Mapping[str, Tensor], path: Path, layers: int = 20) -> CifarResNet:
    """The network of so many layers, its width and classes read off the tensors.

    Raises:
        WeightsError: these are not its weights.
    """
    title = f"resnet{layers}"
    found = shapes(state, {"conv1.weight": 4, "layer3.0.conv1.weight": 4, "linear.weight": 2}, title, path)
    if _blocks_in(state) != _BLOCKS[layers]:
        raise WeightsError(
            f"weights {path} are not {title}'s: expected {_BLOCKS[layers]} blocks in a stage, found "
            f"{_blocks_in(state)} (those of resnet{6 * _blocks_in(state) + 2}); choose another --model"
        )
    width, channels = found["conv1.weight"][:2]
    module = CifarResNet(_BLOCKS[layers], width, found["linear.weight"][0], channels)
    load_into(module, with_counters(state), path)
    return module.eval()


def build(classes: int = 10, channels: int = 3, width: int = 16, layers: int = 20) -> nn.Module:
    """A fresh network, initialised as in He et al., arXiv:1502.01852, section 2.2."""
    return CifarResNet(_BLOCKS[layers], width, classes, channels).train()


for _layers, _count in _BLOCKS.items():
    MODELS.add(f"resnet{_layers}")(
        Distinct(
            title=f"ResNet-{_layers} for 32x32 images, option A shortcuts (CVPR 2016, arXiv:1512.03385)",
            task=CLASSIFICATION,
            build=partial(build, layers=_layers),
            from_state=partial(from_state, layers=_layers),
            marks=("conv1.weight", "layer1.0.conv2.weight", f"layer3.{_count - 1}.conv2.weight", "linear.weight"),
            absent=(f"layer3.{_count}.conv2.weight", "layer4.0.conv1.weight", "layer2.0.shortcut.0.weight"),
            input_size=(32, 32),
            crop_share=1.0,
        )
    )
