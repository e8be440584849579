"""Swin Transformer (Liu et al., ICCV 2021, arXiv:2103.14030).

Attention in windows that every second block shifts by half a window (section 3.2), with tensors named as in timm;
checkpoints of the authors' repository (microsoft/Swin-Transformer) are renamed on loading.  Everything is written
with tensors of at most four dimensions, which all runtimes know: the windows of an image stand beside its heads.
Stochastic depth belongs to the published recipe and is left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from compress.models._classifier import IMAGENET, Normalize
from compress.models.deit import count, load
from compress.network import CLASSIFICATION, Family
from compress.registry import MODELS

__all__ = ["Swin", "build", "from_state"]

_SIDE = 224
_HEAD_WIDTH = 32  # section 3.3: "the query dimension of each head is d = 32"
_EXPANSION = 4
_FORBIDDEN = -100.0  # added to the logits of pairs that the cyclic shift brought together, as the authors do


def _offsets(window: int) -> Tensor:
    """Row of the bias table for each pair of positions, (window², window²): section 3.2, relative position bias."""
    places = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
    rows, columns = (places[:, :, None] - places[:, None]) + (window - 1)
    return torch.as_tensor(rows * (2 * window - 1) + columns)


def _mask(side: int, window: int, shift: int) -> Tensor:
    """What the cyclic shift forbids, (windows, 1, window², window²): figure 4.

    After the shift, the last ``shift`` rows and columns come from the other end; only places of one region attend
    to each other.
    """
    place = torch.arange(side)
    band = (place >= side - window).long() + (place >= side - shift).long()
    region = band[:, None] * 3 + band[None]
    each = _windows(region.view(1, side, side, 1), window).squeeze(-1)
    return torch.where(each[:, None] == each[:, :, None], 0.0, _FORBIDDEN)[:, None]


def _windows(x: Tensor, window: int) -> Tensor:
    """(N, side, side, C) to (N * windows, window², C), row by row."""
    n, side, _, width = x.shape
    x = x.reshape(n * side // window, window, side // window, window * width).transpose(1, 2)
    return x.reshape(n * (side // window) ** 2, window**2, width)


def _together(x: Tensor, side: int, window: int) -> Tensor:
    """The inverse of `_windows`: (N * windows, window², C) to (N, side, side, C)."""
    width, across = x.shape[-1], side // window
    x = x.reshape(-1, across, window, window * width).transpose(1, 2)
    return x.reshape(-1, side, side, width)


def _rolled(x: Tensor, shift: int) -> Tensor:
    """(N, H, W, C), cyclically moved up and left by ``shift``; down and right where it is negative."""
    for axis in (1, 2):
        first, last = x.tensor_split([shift], axis)
        x = torch.cat([last, first], axis)
    return x


class _WindowAttention(nn.Module):
    """Multi-head self-attention within windows, with relative position bias (section 3.2, equation 4).

    Args:
        width: C.
        side: of the map, in tokens.
        window: side of a window, a divisor of ``side``.
        shift: by how many tokens the map was rolled before it was cut up.
    """

    index: Tensor
    mask: Tensor

    def __init__(self, width: int, side: int, window: int, shift: int) -> None:
        super().__init__()
        self.heads = max(1, width // _HEAD_WIDTH)
        if width % self.heads:
            raise ValueError(f"width {width}: expected below {2 * _HEAD_WIDTH} or a multiple of {_HEAD_WIDTH}")
        self.groups = self.heads * ((side // window) ** 2 if shift else 1)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, self.heads))
        self.register_buffer("index", _offsets(window).flatten(), persistent=False)
        mask = _mask(side, window, shift) if shift else torch.zeros(1, 1, window**2, window**2)
        self.register_buffer("mask", mask, persistent=False)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def bias(self) -> Tensor:
        """What is added to the logits: (heads, window², window²), or of every window where they are shifted."""
        tokens = self.mask.shape[-1]
        bias = self.relative_position_bias_table[self.index].t().reshape(1, self.heads, tokens, tokens)
        return (bias + self.mask).reshape(self.groups, tokens, tokens)

    def forward(self, x: Tensor) -> Tensor:
        """(N * windows, window², C) to the same."""
        n, tokens, width = x.shape
        each = width // self.heads
        heads = (n * self.heads // self.groups, self.groups, tokens, each)
        q, k, v = (
            t.reshape(n, tokens, self.heads, each).transpose(1, 2).reshape(heads) for t in self.qkv(x).chunk(3, -1)
        )
        weights = torch.softmax((q * each**-0.5) @ k.transpose(2, 3) + self.bias(), -1)
        mixed = (weights @ v).reshape(n, self.heads, tokens, each).transpose(1, 2)
        y: Tensor = self.proj(mixed.reshape(n, tokens, width))
        return y


class _Mlp(nn.Module):
    """Two linear layers with GELU between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, _EXPANSION * width)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(_EXPANSION * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to the same."""
        y: Tensor = self.fc2(self.act(self.fc1(x)))
        return y


class _Block(nn.Module):
    """Attention and two linear layers, each normalised first and added to its input (equation 3)."""

    def __init__(self, width: int, side: int, window: int, shift: int) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(width)
        self.attn = _WindowAttention(width, side, window, shift)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = _Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, side, side, C) to the same."""
        y = self.norm1(x)
        y = _rolled(y, self.shift) if self.shift else y
        y = _together(self.attn(_windows(y, self.window)), x.shape[1], self.window)
        x = x + (_rolled(y, -self.shift) if self.shift else y)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class _PatchMerging(nn.Module):
    """Two by two tokens become one of twice the width (section 3.1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) with even sides to (N, H / 2, W / 2, 2 * C)."""
        parts = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        y: Tensor = self.reduction(self.norm(torch.cat(parts, -1)))
        return y


class _PatchEmbed(nn.Module):
    """Patches to tokens, normalised."""

    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, patch)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) to (N, H / patch, W / patch, width)."""
        y: Tensor = self.norm(self.proj(x).permute(0, 2, 3, 1))
        return y


class _Stage(nn.Module):
    """Blocks on one size of map, after a merging of patches except in the first stage."""

    def __init__(self, width: int, side: int, window: int, depth: int, first: bool) -> None:
        super().__init__()
        self.downsample = nn.Identity() if first else _PatchMerging(width // 2)
        window = min(window, side)
        if side % window:
            raise ValueError(f"maps of {side} tokens a side: expected a multiple of window, {window}")
        shift = window // 2 if window < side else 0
        self.blocks = nn.Sequential(*(_Block(width, side, window, shift * (k % 2)) for k in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) to (N, H / 2, W / 2, 2 * C), or the same in the first stage."""
        y: Tensor = self.blocks(self.downsample(x))
        return y


class _Head(nn.Module):
    """The classifier, under timm's name."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C) to (N, classes)."""
        y: Tensor = self.fc(x)
        return y


class Swin(nn.Module):
    """Swin Transformer for square inputs whose last map is one window, as it is in all published sizes.

    That lets a checkpoint tell the size of its input: window * patch * 2**(stages - 1), with the last stage's window.

    Args:
        classes: length of the logits.
        channels: of the input.
        input_size: side of the input.
        patch: side of a patch.
        width: C of the first stage; it doubles from stage to stage, and heads have 32 of it each.
        depths: blocks in each stage; every second one is shifted.
        window: side of a window in tokens; smaller maps are one window.
    """

    def __init__(
        self, classes: int, channels: int, input_size: int, patch: int, width: int, depths: Sequence[int], window: int
    ) -> None:
        super().__init__()
        side = input_size // patch
        step = 2 ** (len(depths) - 1)
        if input_size % (patch * step) or side // step > window:
            raise ValueError(
                f"input_size {input_size}: expected a multiple of {patch * step}, at most {patch * step * window}"
            )
        self.classes, self.channels, self.input_size = classes, channels, (input_size, input_size)
        self.normalize = Normalize(IMAGENET, channels)
        self.patch_embed = _PatchEmbed(channels, width, patch)
        self.layers = nn.Sequential(
            *(_Stage(width << k, side >> k, window, depth, first=k == 0) for k, depth in enumerate(depths))
        )
        self.norm = nn.LayerNorm(width * step)
        self.head = _Head(width * step, classes)
        for layer in self.modules():
            if isinstance(layer, _WindowAttention):
                nn.init.trunc_normal_(layer.relative_position_bias_table, std=0.02)
            elif isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, side, side) in [0, 1] to logits (N, classes)."""
        x = self.norm(self.layers(self.patch_embed(self.normalize(x))))
        logits: Tensor = self.head(x.mean((1, 2)))
        return logits


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' names as timm's: patches are merged at the start of a stage there, at its end here."""
    if "head.weight" not in state:
        return dict(state)
    renamed = {}
    for name, value in state.items():
        if name.endswith(("relative_position_index", "attn_mask")):
            continue
        name = re.sub(r"^layers\.(\d+)\.downsample", lambda m: f"layers.{int(m[1]) + 1}.downsample", name)
        renamed[re.sub(r"^head\.(?!fc\.)", "head.fc.", name)] = value
    return renamed


def _window(state: Mapping[str, Tensor], stage: int) -> int:
    """Side of the windows in a stage: the table has (2 * window - 1)² rows."""
    return (math.isqrt(state[f"layers.{stage}.blocks.0.attn.relative_position_bias_table"].shape[0]) + 1) // 2


def _sized_after(state: Mapping[str, Tensor]) -> Swin:
    width, channels, patch, _ = state["patch_embed.proj.weight"].shape
    stages = count(state, "layers.")
    depths = [count(state, f"layers.{k}.blocks.") for k in range(stages)]
    side = _window(state, stages - 1) * patch * 2 ** (stages - 1)
    return Swin(state["head.fc.weight"].shape[0], channels, side, patch, width, depths, _window(state, 0))


def from_state(state: Mapping[str, Tensor], path: Path) -> Swin:
    """The network whose sizes are read off the tensors; timm's checkpoints and the authors' alike.

    Raises:
        WeightsError: these are not Swin's weights.
    """
    expected = "patch_embed, layers with relative_position_bias_table, norm, head"
    return load(_sized_after, _renamed(state), path, ("Swin Transformer", expected))


def build(
    classes: int = 10,
    channels: int = 3,
    input_size: int = _SIDE,
    patch: int = 4,
    width: int = 96,
    depths: Sequence[int] = (2, 2, 6, 2),
    window: int = 7,
) -> nn.Module:
    """Swin-T of section 3.3; ``input_size=32, patch=2, window=4`` for small images."""
    return Swin(classes, channels, input_size, patch, width, depths, window).train()


MODELS.add("swin-tiny")(
    Family(
        title="Swin-T, shifted-window transformer for classification (ICCV 2021, arXiv:2103.14030)",
        task=CLASSIFICATION,
        build=build,
        from_state=from_state,
        marks=(
            "patch_embed.norm.weight",
            "layers.0.blocks.0.attn.relative_position_bias_table",
            "layers.0.blocks.0.mlp.fc1.weight",
            "head.fc.weight|head.weight",
        ),
        input_size=(_SIDE, _SIDE),
        crop_share=0.9,
    )
)
