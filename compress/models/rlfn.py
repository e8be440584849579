"""RLFN: Residual Local Feature Network (Kong et al., CVPRW 2022, arXiv:2205.07514), first of NTIRE 2022 in runtime.

Names and sizes follow the public code (bytedance/RLFN), whose weights take and give grey levels of 0 to 255.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from compress.models.rfdn import LEVELS, SLOPE, Esa, conv3x3, foreign, interpolate_first, numbered, rgb_ends
from compress.network import SUPER_RESOLUTION, Family
from compress.registry import MODELS
from compress.weights import load_into

__all__ = ["Rlfn", "build", "build_small", "from_state"]


class _Block(nn.Module):
    """RLFB: three plain convolutions, a skip, a 1x1 and the slim attention (model/block.py, RLFB)."""

    def __init__(self, channels: int, middle: int, attention: int) -> None:
        super().__init__()
        self.c1_r = conv3x3(channels, middle)
        self.c2_r = conv3x3(middle, middle)
        self.c3_r = conv3x3(middle, channels)
        self.act = nn.LeakyReLU(SLOPE)
        self.c5 = nn.Conv2d(channels, channels, 1)
        self.esa = Esa(channels, attention, slim=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        features = x
        for refine in (self.c1_r, self.c2_r, self.c3_r):
            features = self.act(refine(features))
        attended: Tensor = self.esa(self.c5(features + x))
        return attended


class Rlfn(nn.Module):
    """RLFN: blocks in a row, one long skip, pixel shuffle.

    Args:
        channels: width.
        scale: enlargement.
        blocks: number of RLFBs.
        middle: width between the convolutions of a block.
        attention: width of the reduced map of the attention.
    """

    def __init__(self, channels: int, scale: int, blocks: int, middle: int, attention: int) -> None:
        super().__init__()
        self.scale, self.blocks = scale, blocks
        self.conv_1 = conv3x3(3, channels)
        for k in range(1, blocks + 1):
            self.add_module(f"block_{k}", _Block(channels, middle, attention))
        self.conv_2 = conv3x3(channels, channels)
        self.upsampler = nn.Sequential(conv3x3(channels, 3 * scale**2), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] to (N, 3, scale*H, scale*W); at least 15 pixels a side."""
        shallow = deep = self.conv_1(x * LEVELS)
        for k in range(1, self.blocks + 1):
            deep = self.get_submodule(f"block_{k}")(deep)
        last, shuffle = self.upsampler
        enlarged: Tensor = shuffle(last(self.conv_2(deep) + shallow) / LEVELS)  # there converters can fold it
        return enlarged


def from_state(state: Mapping[str, Tensor], path: Path) -> Rlfn:
    """The network whose sizes are read off the tensors.

    Raises:
        WeightsError: these are not RLFN weights.
    """
    ends = rgb_ends(state, "conv_1.weight", "upsampler.0.weight")
    middle, attention = state.get("block_1.c1_r.weight"), state.get("block_1.esa.conv1.weight")
    if ends is None or middle is None or attention is None or not middle.dim() == attention.dim() == 4:
        raise foreign(
            state, path, "RLFN", "conv_1 for 3 channels, block_1.esa, ..., conv_2, upsampler.0 with 3 * scale * scale"
        )
    module = Rlfn(*ends, numbered(state, "block_"), middle.shape[0], attention.shape[0])
    load_into(module, state, path)
    return module.eval()


def build(
    scale: int = 4, channels: int = 52, blocks: int = 6, middle: int | None = None, attention: int = 16
) -> nn.Module:
    """RLFN, starting from bilinear interpolation.

    Args:
        scale: enlargement.
        channels: width; 52 in the paper, 46 in the entry to NTIRE 2022.
        blocks: 6 in the paper, 4 in the entry.
        middle: width inside a block; None: as outside, 48 in the entry.
        attention: width of the attention's reduced map.
    """
    module = Rlfn(channels, scale, blocks, middle or channels, attention)
    interpolate_first(module.conv_1, module.conv_2, module.upsampler, scale)
    return module.train()


def build_small(
    scale: int = 4, channels: int = 48, blocks: int = 6, middle: int | None = None, attention: int = 16
) -> nn.Module:
    """RLFN-S: 48 channels; the arguments are those of :func:`build`."""
    return build(scale, channels, blocks, middle, attention)


_MARKS = ("conv_1.weight", "block_1.c1_r.weight", "block_1.esa.conv1.weight", "conv_2.weight")

MODELS.add("rlfn")(
    Family(
        title="RLFN, residual local features, x2 to x4 super-resolution (CVPRW 2022, arXiv:2205.07514)",
        task=SUPER_RESOLUTION,
        build=build,
        from_state=from_state,
        marks=_MARKS,
    )
)
MODELS.add("rlfn-s")(
    Family(
        title="RLFN-S, the 48-channel RLFN, x2 to x4 super-resolution (CVPRW 2022, arXiv:2205.07514)",
        task=SUPER_RESOLUTION,
        build=build_small,
        from_state=from_state,
        marks=_MARKS,
    )
)
