"""EFDN: Edge-enhanced Feature Distillation Network (Wang, CVPRW 2022, arXiv:2204.08759).

Names and sizes follow the public code (icandle/EFDN).  The published checkpoints are merged: one 3x3 convolution
for each of the training form's blocks.  The public code ends with a clamp to [0, 1], which scoring and writing images
do anyway; it is left out, so that the pixel shuffle stays next to the last convolution in exported files.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn

from compress.models.rfdn import Esa, conv3x3, foreign, interpolate_first, rgb_ends
from compress.network import SUPER_RESOLUTION, Family
from compress.registry import MODELS
from compress.weights import load_into

__all__ = ["EdgeBlock", "Efdn", "build", "from_state"]

_CELLS = 4
_SMALL = 1e-3  # of the edge filters in a fresh network
_EDGES = {
    "conv1x1_sbx": ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0)),
    "conv1x1_sby": ((1.0, 2.0, 1.0), (0.0, 0.0, 0.0), (-1.0, -2.0, -1.0)),
    "conv1x1_lpl": ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0)),
}
"""Sobel along x and y, Laplacian."""


class _Pair(nn.Module):
    """The tensors of a 1x1 convolution followed by a 3x3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 3)
        self.k0, self.b0 = first.weight, _bias(first)
        self.k1, self.b1 = second.weight, _bias(second)

    def kernel(self) -> tuple[Tensor, Tensor]:
        """Weight (C, C, 3, 3) and bias (C,) of the one 3x3 that it equals."""
        spread = self.k1.permute(0, 2, 3, 1) @ self.k0[:, :, 0, 0]
        return spread.permute(0, 3, 1, 2), self.k1.sum((2, 3)) @ self.b0 + self.b1


class _Edge(nn.Module):
    """The tensors of a 1x1 convolution followed by a fixed edge filter, scaled for each channel."""

    mask: Tensor

    def __init__(self, channels: int, edge: tuple[tuple[float, ...], ...]) -> None:
        super().__init__()
        first = nn.Conv2d(channels, channels, 1)
        self.k0, self.b0 = first.weight, _bias(first)
        self.scale = nn.Parameter(torch.randn(channels, 1, 1, 1) * _SMALL)
        self.bias = nn.Parameter(torch.randn(channels) * _SMALL)
        self.register_buffer("mask", torch.tensor(edge).repeat(channels, 1, 1, 1))

    def kernel(self) -> tuple[Tensor, Tensor]:
        """Weight (C, C, 3, 3) and bias (C,) of the one 3x3 that it equals."""
        filters = self.scale * self.mask
        return filters * self.k0, filters.sum((1, 2, 3)) * self.b0 + self.bias


class EdgeBlock(nn.Module):
    """EDBB: a 3x3 convolution trained as seven branches, then PReLU (arXiv:2204.08759; models/unitv2.py).

    3x3, 1x1, 1x1 - 3x3, 1x1 - Sobel x, 1x1 - Sobel y, 1x1 - Laplacian, and the input itself.  The branches of two
    steps pad *before* the second step with the bias of the first (the value that the 1x1 gives on zeros), which is
    what makes the one 3x3 exact at image borders.  The forward pass convolves once with the merged kernel: the same
    values and gradients as the seven branches.

    Args:
        channels: of the input and the output.
    """

    identity: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rep_conv = conv3x3(channels, channels)
        self.conv1x1 = nn.Conv2d(channels, channels, 1)
        self.conv1x1_3x3 = _Pair(channels)
        self.conv1x1_sbx, self.conv1x1_sby, self.conv1x1_lpl = (_Edge(channels, edge) for edge in _EDGES.values())
        self.act = nn.PReLU(channels)
        self.register_buffer("identity", torch.eye(channels)[:, :, None, None], persistent=False)

    def kernel(self) -> tuple[Tensor, Tensor]:
        """Weight (C, C, 3, 3) and bias (C,) of the equal plain convolution; differentiable."""
        pointwise = self.conv1x1.weight + self.identity
        weight = self.rep_conv.weight + F.pad(pointwise, (1, 1, 1, 1))
        bias = _bias(self.rep_conv) + _bias(self.conv1x1)
        for branch in (self.conv1x1_3x3, self.conv1x1_sbx, self.conv1x1_sby, self.conv1x1_lpl):
            more_weight, more_bias = branch.kernel()
            weight, bias = weight + more_weight, bias + more_bias
        return weight, bias

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        with torch.autocast(x.device.type, enabled=False):  # the merge is cheap: keep it in float32
            weight, bias = self.kernel()
        activated: Tensor = self.act(F.conv2d(x, weight, bias, padding=1))
        return activated

    def merge(self) -> nn.Module:
        """The equal plain 3x3 convolution and the activation."""
        weight, bias = (t.detach() for t in self.kernel())
        plain = _plain_block(weight.shape[0])
        values = {"rep_conv.weight": weight, "rep_conv.bias": bias, "act.weight": self.act.weight.detach()}
        plain.load_state_dict(values)
        return plain.to(weight)


def _bias(layer: nn.Conv2d) -> Tensor:
    if layer.bias is None:
        raise TypeError("EFDN's convolutions have biases")
    return layer.bias


def _plain_block(channels: int) -> nn.Module:
    return nn.Sequential(OrderedDict(rep_conv=conv3x3(channels, channels), act=nn.PReLU(channels)))


class _Cell(nn.Module):
    """EFDB: a 1x1 and two edge blocks; half of the channels of each and of the input are fused, then ESA."""

    def __init__(self, channels: int, trainable: bool) -> None:
        super().__init__()
        block = EdgeBlock if trainable else _plain_block
        self.conv1 = nn.Sequential(OrderedDict(conv1x1=nn.Conv2d(channels, channels, 1), act=nn.PReLU(channels)))
        self.conv2 = block(channels)
        self.conv3 = block(channels)
        self.fuse = nn.Conv2d(4 * (channels // 2), channels, 1)
        self.att = Esa(channels, channels // 4)
        self.branch = nn.ModuleList([nn.Conv2d(channels, channels // 2, 1) for _ in range(4)])

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        first = self.conv1(x)
        second = self.conv2(first)
        steps = (x, first, second, self.conv3(second))
        distilled = torch.cat([branch(step) for branch, step in zip(self.branch, steps, strict=True)], 1)
        attended: Tensor = self.att(self.fuse(distilled))
        return attended + x


class Efdn(nn.Module):
    """EFDN; ``trainable`` selects the branched form, otherwise the blocks are plain 3x3 convolutions.

    Args:
        channels: width, 4 or more.
        scale: enlargement.
        trainable: the re-parameterised training form.
    """

    def __init__(self, channels: int, scale: int, trainable: bool = False) -> None:
        super().__init__()
        self.scale = scale
        self.head = conv3x3(3, channels)
        self.cells = nn.ModuleList([_Cell(channels, trainable) for _ in range(_CELLS)])
        self.local_fuse = nn.ModuleList([nn.Conv2d(2 * channels, channels, 1) for _ in range(_CELLS - 1)])
        self.tail = nn.Sequential(conv3x3(channels, 3 * scale**2), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] to (N, 3, scale*H, scale*W); at least 15 pixels a side."""
        shallow = self.head(x)
        first = self.cells[0](shallow)
        second = self.cells[1](first)
        third = self.cells[2](self.local_fuse[0](torch.cat([first, second], 1)))
        fourth = self.cells[3](self.local_fuse[1](torch.cat([second, third], 1)))
        fused = self.local_fuse[2](torch.cat([second, fourth], 1))
        enlarged: Tensor = self.tail(fused + shallow)
        return enlarged


def from_state(state: Mapping[str, Tensor], path: Path) -> Efdn:
    """The network whose sizes are read off the tensors; merged and training checkpoints alike.

    Raises:
        WeightsError: these are not EFDN weights.
    """
    ends = rgb_ends(state, "head.weight", "tail.0.weight")
    if ends is None or "cells.0.conv2.rep_conv.weight" not in state:
        raise foreign(
            state, path, "EFDN", "head for 3 channels, cells.0 to cells.3, local_fuse, tail.0 with 3 * scale * scale"
        )
    module = Efdn(*ends, trainable="cells.0.conv2.conv1x1.weight" in state)
    load_into(module, state, path)
    return module.eval()


def build(scale: int = 4, channels: int = 48) -> nn.Module:
    """EFDN with branches, starting from bilinear interpolation."""
    module = Efdn(channels, scale, trainable=True)
    interpolate_first(module.head, module.local_fuse[-1], module.tail, scale)
    return module.train()


MODELS.add("efdn")(
    Family(
        title="EFDN, edge-enhanced feature distillation, x2 to x4 super-resolution (CVPRW 2022, arXiv:2204.08759)",
        task=SUPER_RESOLUTION,
        build=build,
        from_state=from_state,
        marks=("head.weight", "cells.0.conv2.rep_conv.weight", "local_fuse.2.weight", "tail.0.weight"),
    )
)
