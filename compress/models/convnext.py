"""ConvNeXt (Liu et al., CVPR 2022, arXiv:2201.03545).

Tensors are named as in timm; checkpoints of the authors' repository (facebookresearch/ConvNeXt) are renamed on
loading.  Merging folds the layer scale of a block (section 2.6) into its last linear layer.  Stochastic depth
belongs to the published recipe and is left out.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from compress.models._classifier import IMAGENET, Normalize
from compress.models.deit import count, load
from compress.models.inception_next import merge_all
from compress.network import CLASSIFICATION, Family
from compress.registry import MODELS

__all__ = ["ConvNeXt", "build", "from_state"]

_SIDE = 224
_EXPANSION = 4
_KERNEL = 7
_EPS = 1e-6
_SCALE = 1e-6  # the layer scale's first value


class _LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


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
    """Depthwise 7x7, layer normalisation, two linear layers on each pixel (figure 4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(width, width, _KERNEL, padding=_KERNEL // 2, groups=width)
        self.norm = nn.LayerNorm(width, eps=_EPS)
        self.mlp = _Mlp(width)

    def _scaled(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        y = self._scaled(self.mlp(self.norm(self.conv_dw(x).permute(0, 2, 3, 1))))
        return x + y.permute(0, 3, 1, 2)


class _ScaledBlock(_Block):
    """With a layer scale: a learned factor for each channel of what is added."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.gamma = nn.Parameter(torch.full((width,), _SCALE))

    def _scaled(self, x: Tensor) -> Tensor:
        return x * self.gamma

    def merge(self) -> _Block:
        """The equal block without a layer scale: its factors are in the last linear layer."""
        plain = _Block(len(self.gamma))
        plain.conv_dw, plain.norm, plain.mlp = copy.deepcopy((self.conv_dw, self.norm, self.mlp))
        last = plain.mlp.fc2
        last.weight.data.mul_(self.gamma.data[:, None])
        last.bias.data.mul_(self.gamma.data)
        return plain


class _Stage(nn.Module):
    """Blocks on one size of map, after a normalised 2x2 convolution that halves it, except in the first stage."""

    def __init__(self, inputs: int, width: int, depth: int, first: bool) -> None:
        super().__init__()
        self.downsample = (
            nn.Identity() if first else nn.Sequential(_LayerNorm2d(inputs, eps=_EPS), nn.Conv2d(inputs, width, 2, 2))
        )
        self.blocks = nn.Sequential(*(_ScaledBlock(width) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H / 2, W / 2), or the same in the first stage."""
        y: Tensor = self.blocks(self.downsample(x))
        return y


class _Head(nn.Module):
    """Average over the map, layer normalisation, linear."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=_EPS)
        self.fc = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, classes)."""
        y: Tensor = self.fc(self.norm(x.mean((2, 3))))
        return y


class ConvNeXt(nn.Module):
    """ConvNeXt.

    Args:
        classes: length of the logits.
        channels: of the input.
        side: of the images it is made for; others work, sides of at least patch * 2**(stages - 1).
        patch: side of the patches that the first convolution takes.
        widths: channels of each stage.
        depths: blocks of each stage.
    """

    def __init__(
        self, classes: int, channels: int, side: int, patch: int, widths: Sequence[int], depths: Sequence[int]
    ) -> None:
        super().__init__()
        self.classes, self.channels, self.input_size = classes, channels, (side, side)
        self.register_buffer("input_side", torch.tensor(side), persistent=side != _SIDE)
        self.normalize = Normalize(IMAGENET, channels)
        self.stem = nn.Sequential(nn.Conv2d(channels, widths[0], patch, patch), _LayerNorm2d(widths[0], eps=_EPS))
        before = [widths[0], *widths]
        self.stages = nn.Sequential(
            *(_Stage(before[k], widths[k], depth, first=k == 0) for k, depth in enumerate(depths))
        )
        self.head = _Head(widths[-1], classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) in [0, 1] to logits (N, classes)."""
        logits: Tensor = self.head(self.stages(self.stem(self.normalize(x))))
        return logits


_OFFICIAL = (  # the authors' names, and timm's
    (r"^downsample_layers\.0\.", "stem."),
    (r"^stages\.(\d+)\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"^downsample_layers\.(\d+)\.", r"stages.\1.downsample."),
    (r"\.dwconv\.", ".conv_dw."),
    (r"\.pwconv(\d)\.", r".mlp.fc\1."),
    (r"^head\.", "head.fc."),
    (r"^norm\.", "head.norm."),
)


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' names as timm's."""
    renamed = dict(state)
    if "downsample_layers.0.0.weight" in state:
        for pattern, name in _OFFICIAL:
            renamed = {re.sub(pattern, name, k): v for k, v in renamed.items()}
    return renamed


def _sized_after(state: Mapping[str, Tensor]) -> ConvNeXt:
    _, channels, patch, _ = state["stem.0.weight"].shape
    stages = range(count(state, "stages."))
    widths = [state[f"stages.{k}.blocks.0.conv_dw.weight"].shape[0] for k in stages]
    depths = [count(state, f"stages.{k}.blocks.") for k in stages]
    side = int(state["input_side"]) if "input_side" in state else _SIDE
    module = ConvNeXt(state["head.fc.weight"].shape[0], channels, side, patch, widths, depths)
    return module if "stages.0.blocks.0.gamma" in state else merge_all(module)


def from_state(state: Mapping[str, Tensor], path: Path) -> ConvNeXt:
    """The network whose sizes are read off the tensors; timm's names and the authors', with and without layer scale.

    Raises:
        WeightsError: these are not ConvNeXt's weights.
    """
    return load(_sized_after, _renamed(state), path, ("ConvNeXt", "stem, stages with conv_dw, head.norm, head.fc"))


def build(
    classes: int = 10,
    channels: int = 3,
    input_size: int = _SIDE,
    patch: int = 4,
    widths: Sequence[int] = (96, 192, 384, 768),
    depths: Sequence[int] = (3, 3, 9, 3),
) -> nn.Module:
    """ConvNeXt-T of section 2; ``input_size=32, patch=2`` for small images."""
    return ConvNeXt(classes, channels, input_size, patch, widths, depths).train()


MODELS.add("convnext-tiny")(
    Family(
        title="ConvNeXt-T, convolutional network for classification (CVPR 2022, arXiv:2201.03545)",
        task=CLASSIFICATION,
        build=build,
        from_state=from_state,
        marks=(
            "stem.0.weight|downsample_layers.0.0.weight",
            "stages.0.blocks.0.conv_dw.weight|stages.0.0.dwconv.weight",
            "stages.0.blocks.0.mlp.fc1.weight|stages.0.0.pwconv1.weight",
            "head.fc.weight|head.weight",
        ),
        input_size=(_SIDE, _SIDE),
    )
)
