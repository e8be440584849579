"""IMDN: Information Multi-distillation Network (Hui et al., ACM MM 2019, arXiv:1909.11856).

Names and sizes follow the public code (Zheng222/IMDN).  Its adaptive cropping (section 3.3, for networks that want
sides of certain multiples) is :func:`adaptive_crops`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from compress.models.rfdn import SLOPE, conv3x3, foreign, interpolate_first, numbered, rgb_ends
from compress.network import SUPER_RESOLUTION, Family
from compress.registry import MODELS
from compress.weights import load_into
from export.tiling import Tile

__all__ = ["Imdn", "adaptive_crops", "build", "from_state"]

_SMALLEST = 1e-12
_REDUCTION = 16


class _ContrastAttention(nn.Module):
    """CCA: a factor for each channel from its mean plus its standard deviation (model/block.py, CCALayer)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // _REDUCTION, 1)
        self.conv_du = nn.Sequential(
            nn.Conv2d(channels, inner, 1), nn.ReLU(), nn.Conv2d(inner, channels, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        mean = x.mean((2, 3), keepdim=True)
        centred = x - mean
        variance = (centred * centred).mean((2, 3), keepdim=True)
        contrast = torch.sqrt(variance.clamp(min=_SMALLEST))  # the root's slope at 0 is infinite
        factors: Tensor = self.conv_du(contrast + mean)
        return x * factors


class _Block(nn.Module):
    """IMDB: four convolutions, each but the last passing on three quarters of its channels (model/block.py)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.parts = [channels // 4, channels - channels // 4]
        self.c1 = conv3x3(channels, channels)
        self.c2 = conv3x3(self.parts[1], channels)
        self.c3 = conv3x3(self.parts[1], channels)
        self.c4 = conv3x3(self.parts[1], self.parts[0])
        self.act = nn.LeakyReLU(SLOPE)
        self.c5 = nn.Conv2d(channels, channels, 1)
        self.cca = _ContrastAttention(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        distilled, rest = [], x
        for refine in (self.c1, self.c2, self.c3):
            kept, rest = torch.split(self.act(refine(rest)), self.parts, 1)
            distilled.append(kept)
        distilled.append(self.c4(rest))
        fused: Tensor = self.c5(self.cca(torch.cat(distilled, 1)))
        return fused + x


class Imdn(nn.Module):
    """IMDN: blocks in a row, all of their outputs fused, one long skip, pixel shuffle.

    Args:
        channels: width, a multiple of 4.
        scale: enlargement.
        blocks: number of IMDBs.
    """

    def __init__(self, channels: int, scale: int, blocks: int) -> None:
        super().__init__()
        if channels % 4:
            raise ValueError(f"channels {channels}: a quarter is distilled at each step, give a multiple of 4")
        self.scale, self.blocks = scale, blocks
        self.fea_conv = conv3x3(3, channels)
        for k in range(1, blocks + 1):
            self.add_module(f"IMDB{k}", _Block(channels))
        self.c = nn.Sequential(nn.Conv2d(blocks * channels, channels, 1), nn.LeakyReLU(SLOPE))
        self.LR_conv = conv3x3(channels, channels)
        self.upsampler = nn.Sequential(conv3x3(channels, 3 * scale**2), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] to (N, 3, scale*H, scale*W)."""
        shallow = self.fea_conv(x)
        deep, outputs = shallow, []
        for k in range(1, self.blocks + 1):
            deep = self.get_submodule(f"IMDB{k}")(deep)
            outputs.append(deep)
        enlarged: Tensor = self.upsampler(self.LR_conv(self.c(torch.cat(outputs, 1))) + shallow)
        return enlarged


def adaptive_crops(height: int, width: int, overlap: int = 32, unit: int = 4) -> list[Tile]:
    """IMDN's adaptive cropping: an image of any size as four corner windows whose sides are multiples of a unit.

    Each window is ``half + overlap`` rounded down to the unit (arXiv:1909.11856, section 3.3; the rounding is the
    public code's), so that the four can run as one batch; each keeps its quarter of the image.  An image too small
    for that gets windows as large as fit.

    Args:
        height: of the image in pixels.
        width: of the image.
        overlap: pixels by which a window reaches over the middle, up to ``unit - 1`` less after rounding.
        unit: what the network's strides multiply to.

    Returns:
        Top left, top right, bottom left, bottom right; in input pixels.

    Raises:
        ValueError: the image is smaller than the unit, or the overlap is, so that windows could not cover it.
    """
    if min(height, width) < unit or overlap < unit:
        raise ValueError(f"an image of {height}x{width} and an overlap of {overlap}: each must be at least {unit}")
    tall, wide = (min(side // 2 + overlap, side) // unit * unit for side in (height, width))
    rows = [(0, 0, height // 2), (height - tall, height // 2, height)]
    columns = [(0, 0, width // 2), (width - wide, width // 2, width)]
    return [
        Tile(top, left, tall, wide, keep_top, keep_left, keep_bottom, keep_right)
        for top, keep_top, keep_bottom in rows
        for left, keep_left, keep_right in columns
    ]


def from_state(state: Mapping[str, Tensor], path: Path) -> Imdn:
    """The network whose sizes are read off the tensors.

    Raises:
        WeightsError: these are not IMDN weights.
    """
    ends = rgb_ends(state, "fea_conv.weight", "upsampler.0.weight")
    if ends is None or "IMDB1.cca.conv_du.0.weight" not in state or ends[0] % 4:
        raise foreign(
            state,
            path,
            "IMDN",
            "fea_conv for 3 channels, IMDB1.cca, IMDB2, ..., c, LR_conv, upsampler.0 with 3 * scale * scale",
        )
    module = Imdn(*ends, numbered(state, "IMDB"))
    load_into(module, state, path)
    return module.eval()


def build(scale: int = 4, channels: int = 64, blocks: int = 6) -> nn.Module:
    """IMDN, starting from bilinear interpolation."""
    module = Imdn(channels, scale, blocks)
    interpolate_first(module.fea_conv, module.LR_conv, module.upsampler, scale)
    return module.train()


MODELS.add("imdn")(
    Family(
        title="IMDN, information multi-distillation, x2 to x4 super-resolution (ACM MM 2019, arXiv:1909.11856)",
        task=SUPER_RESOLUTION,
        build=build,
        from_state=from_state,
        marks=("fea_conv.weight", "IMDB1.c1.weight", "IMDB1.cca.conv_du.0.weight", "LR_conv.weight"),
    )
)
