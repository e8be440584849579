"""RFDN: Residual Feature Distillation Network (Liu et al., ECCVW 2020, arXiv:2009.11551), first of AIM 2020.

Sizes, names and the attention follow the public code of the challenge entry (njulj/RFDN), whose weights take and
give grey levels of 0 to 255.  The attention (:class:`Esa`), the start of a fresh network (:func:`interpolate_first`)
and the look at a checkpoint's two ends (:func:`rgb_ends`) serve the relatives IMDN, EFDN and RLFN too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isqrt
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn

from compress.errors import WeightsError
from compress.network import SUPER_RESOLUTION, Family
from compress.registry import MODELS
from compress.weights import load_into

__all__ = [
    "LEVELS",
    "SLOPE",
    "Esa",
    "Rfdn",
    "build",
    "conv3x3",
    "foreign",
    "from_state",
    "interpolate_first",
    "numbered",
    "rgb_ends",
]

SLOPE = 0.05
"""Of the leaky ReLUs in IMDN, RFDN and RLFN."""
LEVELS = 255.0
"""Grey levels for 1.0, in the networks that were trained on them."""
_NARROWEST = 4  # channels: the attention divides them by four, and three carry the image at first
_FAINT = 0.1  # share of the random values in a fresh network's last convolution
_SHOWN = 10


class Esa(nn.Module):
    """Enhanced spatial attention: a factor in (0, 1) for every value, from a strongly reduced map.

    RFANet (Liu et al., CVPR 2020), in the narrower form of the challenge code (block.py, ESA).  The slim form of
    RLFN (arXiv:2205.07514; model/block.py) has one 3x3 convolution on the reduced map instead of three.

    The map, about a sixth of the image a side, is stretched to all of it, so the values depend on the image's size:
    such a network has no receptive-field radius.  An input needs at least 15 pixels a side, which give one of the map.

    Args:
        channels: of the input.
        inner: of the reduced map.
        slim: the form of RLFN.

    Raises:
        ValueError: a reduced map without channels.
    """

    def __init__(self, channels: int, inner: int, slim: bool = False) -> None:
        super().__init__()
        if inner < 1:
            raise ValueError(f"channels {channels}: give at least {_NARROWEST}, the attention works on a quarter")
        self.conv1 = nn.Conv2d(channels, inner, 1)
        self.conv_f = nn.Conv2d(inner, inner, 1)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=2)
        self.conv3 = conv3x3(inner, inner)
        self.conv_max = None if slim else conv3x3(inner, inner)
        self.conv3_ = None if slim else conv3x3(inner, inner)
        self.conv4 = nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        narrow = self.conv1(x)
        reduced = F.max_pool2d(self.conv2(narrow), 7, 3)
        if self.conv_max is not None:
            reduced = F.relu(self.conv_max(reduced))
        reduced = self.conv3(reduced)
        if self.conv3_ is not None:
            reduced = self.conv3_(F.relu(reduced))
        stretched = F.interpolate(reduced, size=x.shape[2:], mode="bilinear", align_corners=False)
        return x * torch.sigmoid(self.conv4(stretched + self.conv_f(narrow)))


class _Block(nn.Module):
    """RFDB: three shallow residual steps, half of the channels set aside at each, then ESA (block.py, RFDB)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        kept = channels // 2
        self.c1_d, self.c2_d, self.c3_d = (nn.Conv2d(channels, kept, 1) for _ in range(3))
        self.c1_r, self.c2_r, self.c3_r = (conv3x3(channels, channels) for _ in range(3))
        self.c4 = conv3x3(channels, kept)
        self.act = nn.LeakyReLU(SLOPE)
        self.c5 = nn.Conv2d(4 * kept, channels, 1)
        self.esa = Esa(channels, channels // 4)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        distilled = []
        for keep, refine in ((self.c1_d, self.c1_r), (self.c2_d, self.c2_r), (self.c3_d, self.c3_r)):
            distilled.append(self.act(keep(x)))
            x = self.act(refine(x) + x)
        distilled.append(self.act(self.c4(x)))
        attended: Tensor = self.esa(self.c5(torch.cat(distilled, 1)))
        return attended


class Rfdn(nn.Module):
    """RFDN: blocks in a row, all of their outputs fused, one long skip, pixel shuffle.

    Args:
        channels: width, 4 or more.
        scale: enlargement.
        blocks: number of RFDBs.
    """

    def __init__(self, channels: int, scale: int, blocks: int) -> None:
        super().__init__()
        self.scale, self.blocks = scale, blocks
        self.fea_conv = conv3x3(3, channels)
        for k in range(1, blocks + 1):
            self.add_module(f"B{k}", _Block(channels))
        self.c = nn.Sequential(nn.Conv2d(blocks * channels, channels, 1), nn.LeakyReLU(SLOPE))
        self.LR_conv = conv3x3(channels, channels)
        self.upsampler = nn.Sequential(conv3x3(channels, 3 * scale**2), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] to (N, 3, scale*H, scale*W); at least 15 pixels a side."""
        shallow = self.fea_conv(x * LEVELS)
        deep, outputs = shallow, []
        for k in range(1, self.blocks + 1):
            deep = self.get_submodule(f"B{k}")(deep)
            outputs.append(deep)
        fused = self.LR_conv(self.c(torch.cat(outputs, 1))) + shallow
        last, shuffle = self.upsampler
        enlarged: Tensor = shuffle(last(fused) / LEVELS)  # before the shuffle converters fold it into the convolution
        return enlarged


def conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    """A 3x3 convolution that keeps the image's size."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def interpolate_first(first: nn.Conv2d, skipped: nn.Module, tail: nn.Sequential, scale: int) -> None:
    """Set the weights of a fresh network so that its first output is nearly the bilinear enlargement.

    Three channels carry the image around everything else, the last convolution interpolates them, and the residual
    is learned from the first step on.

    Args:
        first: from RGB to the features, at the start of the long skip.
        skipped: the convolution whose output is added to that at the end of the long skip.
        tail: the convolution to sub-pixels and the PixelShuffle.
        scale: enlargement.

    Raises:
        ValueError: fewer than four channels.
    """
    if first.out_channels < _NARROWEST:
        raise ValueError(f"channels {first.out_channels}: give at least {_NARROWEST}")
    impulses = torch.eye(9).view(9, 1, 3, 3)  # by tap of a 3x3 kernel: how it shows in the sub-pixels of the centre
    shown = F.interpolate(impulses, scale_factor=scale, mode="bilinear")[:, 0, scale:-scale, scale:-scale]
    kernels = shown.flatten(1).t().reshape(scale**2, 3, 3)
    with torch.no_grad():
        for parameter in (*first.parameters(), *skipped.parameters()):
            parameter[:3] = 0.0
        first.weight[range(3), range(3), 1, 1] = 1.0
        weight, bias = tail.parameters()
        weight.mul_(_FAINT)[:, :3] = 0.0
        for colour in range(3):
            weight[colour * scale**2 : (colour + 1) * scale**2, colour] = kernels
        bias.zero_()


def rgb_ends(state: Mapping[str, Tensor], first: str, last: str) -> tuple[int, int] | None:
    """(channels, scale) that the first and last convolution of an RGB network tell; None: they are not such."""
    begin, end = state.get(first), state.get(last)
    if begin is None or end is None or begin.dim() != 4 or end.dim() != 4 or begin.shape[1] != 3:
        return None
    scale = isqrt(end.shape[0] // 3)
    whole = scale > 0 and 3 * scale**2 == end.shape[0] and begin.shape[0] >= _NARROWEST
    return (begin.shape[0], scale) if whole else None


def numbered(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many modules ``prefix1``, ``prefix2``, ... there are."""
    return len({m[1] for m in (re.match(rf"{re.escape(prefix)}(\d+)\.", k) for k in state) if m})


def foreign(state: Mapping[str, Tensor], path: Path, family: str, expected: str) -> WeightsError:
    """The error for tensors of another network."""
    found = ", ".join(sorted({k.split(".", 1)[0] for k in state})[:_SHOWN])
    return WeightsError(
        f"weights {path} are not {family}'s: expected {expected}; found {found}; choose another --model"
    )


def from_state(state: Mapping[str, Tensor], path: Path) -> Rfdn:
    """The network whose sizes are read off the tensors.

    Raises:
        WeightsError: these are not RFDN weights.
    """
    ends = rgb_ends(state, "fea_conv.weight", "upsampler.0.weight")
    if ends is None or "B1.c1_d.weight" not in state:
        raise foreign(
            state, path, "RFDN", "fea_conv for 3 channels, B1, B2, ..., c, LR_conv, upsampler.0 with 3 * scale * scale"
        )
    module = Rfdn(*ends, numbered(state, "B"))
    load_into(module, state, path)
    return module.eval()


def build(scale: int = 4, channels: int = 50, blocks: int = 4) -> nn.Module:
    """RFDN, starting from bilinear interpolation; the default sizes are the challenge's."""
    module = Rfdn(channels, scale, blocks)
    interpolate_first(module.fea_conv, module.LR_conv, module.upsampler, scale)
    return module.train()


MODELS.add("rfdn")(
    Family(
        title="RFDN, residual feature distillation, x2 to x4 super-resolution (ECCVW 2020, arXiv:2009.11551)",
        task=SUPER_RESOLUTION,
        build=build,
        from_state=from_state,
        marks=("fea_conv.weight", "B1.c1_d.weight", "B1.esa.conv_max.weight", "LR_conv.weight"),
    )
)
