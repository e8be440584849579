"""InceptionNeXt: when Inception meets ConvNeXt (Yu et al., CVPR 2024, arXiv:2303.16900).

ConvNeXt whose depthwise convolution is a 3x3, a 1x11 and an 11x1 on an eighth of the channels each, the others
passing by (section 3.2, algorithm 1).  Tensors are named as in timm and in the authors' checkpoints
(sail-sg/inceptionnext).  Merging folds every batch normalisation and layer scale into the convolution beside it,
which is exact at borders too, because those convolutions are not padded.  Stochastic depth belongs to the
published recipe and is left out.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from compress.models._classifier import IMAGENET, LARGE_SIDE, Normalize, keep_side, side_in
from compress.models.deit import count, load
from compress.network import CLASSIFICATION, Family
from compress.registry import MODELS

__all__ = ["InceptionNext", "build", "fold", "fold_before", "from_state", "merge_all"]

_SQUARE, _BAND = 3, 11  # kernels
_SHARE = 8  # one channel in so many goes to each kernel
_EXPANSIONS = (4, 4, 4, 3)  # of the blocks in each stage
_HEAD_EXPANSION = 3
_SCALE = 1e-6  # the layer scale's first value

M = TypeVar("M", bound=nn.Module)
L = TypeVar("L", nn.Conv2d, nn.Linear)


def merge_all(module: M) -> M:
    """The module, each sub-module with a ``merge()`` replaced by what that returns."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            merge = getattr(child, "merge", None)
            if callable(merge):
                setattr(parent, name, merge())
    return module


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Factor and summand of a batch normalisation in evaluation mode, in double precision."""
    if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) or norm.running_mean is None or norm.running_var is None:
        raise TypeError(f"expected a batch normalisation with statistics, found {type(norm).__name__}")
    factor = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
    return factor, norm.bias.detach().double() - norm.running_mean.double() * factor


def _with(layer: L, weight: Tensor, bias: Tensor) -> L:
    """A copy of the layer with other values, in its own precision."""
    plain = copy.deepcopy(layer)
    for name, value in (("weight", weight), ("bias", bias)):
        plain.register_parameter(name, nn.Parameter(value.to(layer.weight.dtype)))
    return plain


def fold(layer: nn.Conv2d, norm: nn.Module) -> nn.Conv2d:
    """The convolution that equals ``norm(layer(x))`` in evaluation mode, borders included."""
    factor, summand = _affine(norm)
    bias = summand if layer.bias is None else summand + layer.bias.detach().double() * factor
    return _with(layer, layer.weight.detach().double() * factor.view(-1, 1, 1, 1), bias)


def fold_before(norm: nn.Module, layer: L) -> L:
    """The layer that equals ``layer(norm(x))``: a linear one, or an unpadded convolution of one group."""
    if isinstance(layer, nn.Conv2d) and (layer.groups != 1 or set(layer.padding) != {0}):
        raise ValueError("a normalisation before a padded or grouped convolution does not fold into it")
    factor, summand = _affine(norm)
    weight: Tensor = layer.weight.detach().double()
    along = (1, -1, *[1] * (weight.dim() - 2))
    bias = (weight * summand.view(along)).flatten(1).sum(1)
    if layer.bias is not None:
        bias = bias + layer.bias.detach().double()
    return _with(layer, weight * factor.view(along), bias)


class _Mixer(nn.Module):
    """The Inception depthwise convolution (section 3.2, equations 3 and 4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        part = width // _SHARE
        self.parts = [width - 3 * part, part, part, part]
        self.dwconv_hw = nn.Conv2d(part, part, _SQUARE, padding=_SQUARE // 2, groups=part)
        self.dwconv_w = nn.Conv2d(part, part, (1, _BAND), padding=(0, _BAND // 2), groups=part)
        self.dwconv_h = nn.Conv2d(part, part, (_BAND, 1), padding=(_BAND // 2, 0), groups=part)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        same, square, wide, high = torch.split(x, self.parts, 1)
        return torch.cat([same, self.dwconv_hw(square), self.dwconv_w(wide), self.dwconv_h(high)], 1)


class _Mlp(nn.Module):
    """Two 1x1 convolutions with GELU between."""

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, expansion * width, 1)
        self.act = nn.GELU()
        self.fc2 = nn.Conv2d(expansion * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        y: Tensor = self.fc2(self.act(self.fc1(x)))
        return y


class _Block(nn.Module):
    """Token mixer and two 1x1 convolutions: the merged form."""

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        self.token_mixer = _Mixer(width)
        self.mlp = _Mlp(width, expansion)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        y: Tensor = x + self.mlp(self.token_mixer(x))
        return y


class _NormedBlock(_Block):
    """With batch normalisation before the 1x1 convolutions and a layer scale after (section 3.1, equation 2)."""

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__(width, expansion)
        self.expansion = expansion
        self.norm = nn.BatchNorm2d(width)
        self.gamma = nn.Parameter(torch.full((width,), _SCALE))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        y: Tensor = self.mlp(self.norm(self.token_mixer(x)))
        return x + y * self.gamma.view(1, -1, 1, 1)

    def merge(self) -> _Block:
        """The equal block without normalisation and layer scale."""
        plain = _Block(len(self.gamma), self.expansion)
        plain.token_mixer, plain.mlp = copy.deepcopy((self.token_mixer, self.mlp))
        plain.mlp.fc1 = fold_before(self.norm, plain.mlp.fc1)
        for parameter in plain.mlp.fc2.parameters():
            parameter.data.mul_(self.gamma.data.view(-1, *[1] * (parameter.dim() - 1)))
        return plain


class _Stem(nn.Sequential):
    """A convolution that takes patches, and batch normalisation."""

    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__(nn.Conv2d(channels, width, patch, patch), nn.BatchNorm2d(width))

    def merge(self) -> nn.Sequential:
        """The equal convolution, in its place."""
        layer, norm = self
        return nn.Sequential(fold(layer, norm)) if isinstance(layer, nn.Conv2d) else self


class _Downsample(nn.Sequential):
    """Batch normalisation, and a 2x2 convolution that halves the map."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__(nn.BatchNorm2d(inputs), nn.Conv2d(inputs, width, 2, 2))

    def merge(self) -> nn.Sequential:
        """The equal convolution, in its place."""
        norm, layer = self
        return nn.Sequential(nn.Identity(), fold_before(norm, layer)) if isinstance(layer, nn.Conv2d) else self


class _Stage(nn.Module):
    """Blocks on one size of map."""

    def __init__(self, inputs: int, width: int, depth: int, expansion: int, first: bool) -> None:
        super().__init__()
        self.downsample = nn.Identity() if first else _Downsample(inputs, width)
        self.blocks = nn.Sequential(*(_NormedBlock(width, expansion) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H / 2, W / 2), or the same in the first stage."""
        y: Tensor = self.blocks(self.downsample(x))
        return y


class _Head(nn.Module):
    """Average over the map, linear, GELU, layer normalisation, linear."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, _HEAD_EXPANSION * width)
        self.act = nn.GELU()
        self.norm = nn.LayerNorm(_HEAD_EXPANSION * width, eps=1e-6)
        self.fc2 = nn.Linear(_HEAD_EXPANSION * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, classes)."""
        y: Tensor = self.fc2(self.norm(self.act(self.fc1(x.mean((2, 3))))))
        return y


class InceptionNext(nn.Module):
    """InceptionNeXt.

    Args:
        classes: length of the logits.
        channels: of the input.
        side: of the images it is made for; others work, sides of at least patch * 2**(stages - 1).
        patch: side of the patches that the first convolution takes.
        widths: channels of each stage, at least 8; at most four stages.
        depths: blocks of each stage.
    """

    def __init__(
        self, classes: int, channels: int, side: int, patch: int, widths: Sequence[int], depths: Sequence[int]
    ) -> None:
        super().__init__()
        if len(widths) != len(depths) or len(widths) > len(_EXPANSIONS) or min(widths) < _SHARE:
            raise ValueError(f"expected at most four widths of at least {_SHARE} and as many depths, found {widths}")
        self.classes, self.channels, self.input_size = classes, channels, (side, side)
        keep_side(self, side)
        self.normalize = Normalize(IMAGENET, channels)
        self.stem = _Stem(channels, widths[0], patch)
        before = [widths[0], *widths]
        self.stages = nn.Sequential(
            *(_Stage(before[k], widths[k], depths[k], _EXPANSIONS[k], first=k == 0) for k in range(len(widths)))
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


def _sized_after(state: Mapping[str, Tensor]) -> InceptionNext:
    _, channels, patch, _ = state["stem.0.weight"].shape
    stages = range(count(state, "stages."))
    widths = [state[f"stages.{k}.blocks.0.mlp.fc2.weight"].shape[0] for k in stages]
    depths = [count(state, f"stages.{k}.blocks.") for k in stages]
    side = side_in(state)
    module = InceptionNext(state["head.fc2.weight"].shape[0], channels, side, patch, widths, depths)
    return module if "stem.1.weight" in state else merge_all(module)


def from_state(state: Mapping[str, Tensor], path: Path) -> InceptionNext:
    """The network whose sizes are read off the tensors; as trained and merged alike.

    Raises:
        WeightsError: these are not InceptionNeXt's weights.
    """
    expected = "stem, stages with token_mixer, head.fc1, head.fc2"
    return load(_sized_after, state, path, ("InceptionNeXt", expected))


def build(
    classes: int = 10,
    channels: int = 3,
    input_size: int = LARGE_SIDE,
    patch: int = 4,
    widths: Sequence[int] = (96, 192, 384, 768),
    depths: Sequence[int] = (3, 3, 9, 3),
) -> nn.Module:
    """InceptionNeXt-T of table 2; ``input_size=32, patch=2`` for small images."""
    return InceptionNext(classes, channels, input_size, patch, widths, depths).train()


MODELS.add("inception-next-tiny")(
    Family(
        title="InceptionNeXt-T, convolutional network for classification (CVPR 2024, arXiv:2303.16900)",
        task=CLASSIFICATION,
        build=build,
        from_state=from_state,
        marks=("stem.0.weight", "stages.0.blocks.0.token_mixer.dwconv_hw.weight", "head.fc1.weight", "head.fc2.weight"),
        input_size=(LARGE_SIDE, LARGE_SIDE),
    )
)
