"""LSNet: see large, focus small (Wang et al., CVPR 2025, arXiv:2503.23135).

LS convolution (section 3.2) looks at a large neighbourhood to make a 3x3 kernel for every place, and applies it to
groups of channels.  The authors' kernel for graphics cards (jameslahm/lsnet, model/ska.py) is written here with
shifted copies.  Names of tensors are theirs, both as trained and after their ``fuse``, and all checkpoints of
section 4.1 load; of the distilled ones, both heads are averaged, as the authors do at test time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn

from compress.models._classifier import IMAGENET, LARGE_SIDE, Normalize, keep_side, side_in
from compress.models.deit import count, load
from compress.models.inception_next import fold, fold_before, merge_all
from compress.network import CLASSIFICATION, Family
from compress.registry import MODELS

__all__ = ["ConvNorm", "GroupNorm", "LsNet", "Ska", "build", "from_state"]

_HEADS = 4  # of the last stage, the only one with attention
_KEY = 16  # channels of a key
_SHARING = 8  # channels to which one dynamic kernel is applied
_LARGE, _SMALL = 7, 3  # kernels of perception and of aggregation
_STAGES = 4


class ConvNorm(nn.Sequential):
    """A convolution without bias, then batch normalisation; ``first`` is the norm's first factor."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, first: float = 1.0
    ) -> None:
        super().__init__()
        self.c = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        nn.init.constant_(self.bn.weight, first)

    def merge(self) -> nn.Conv2d:
        """The equal plain convolution."""
        return fold(self.c, self.bn)


class _NormLinear(nn.Sequential):
    """Batch normalisation, then a linear layer."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(inputs)
        self.l = nn.Linear(inputs, outputs)
        nn.init.trunc_normal_(self.l.weight, std=0.02)
        nn.init.zeros_(self.l.bias)

    def merge(self) -> nn.Linear:
        """The equal plain linear layer."""
        return fold_before(self.bn, self.l)


class _RepDepthwise(nn.Module):
    """Depthwise 3x3, depthwise 1x1 and identity, added (RepVGG, arXiv:2101.03697, section 3.2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = ConvNorm(width, width, 3, groups=width)
        self.conv1 = ConvNorm(width, width, 1, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        y: Tensor = self.conv(x) + self.conv1(x) + x
        return y

    def merge(self) -> nn.Conv2d:
        """The equal plain depthwise 3x3 convolution."""
        plain, point = self.conv.merge(), self.conv1.merge()
        plain.weight.data += F.pad(point.weight.data + 1.0, (1, 1, 1, 1))
        if plain.bias is not None and point.bias is not None:
            plain.bias.data += point.bias.data
        return plain


class GroupNorm(nn.GroupNorm):
    """Group normalisation, through torch's layer normalisation of each group in one row.

    Torch's own becomes ONNX's InstanceNormalization, all of which share one constant; onnxruntime's quantizer copies
    that under names that other tensors may already have.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        rows = x.reshape(x.shape[0], self.num_groups, -1)
        y = F.layer_norm(rows, rows.shape[2:], eps=self.eps).reshape(x.shape)
        return y * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


class _Perception(nn.Module):
    """A 3x3 kernel for each place and ``_SHARING`` channels, from what lies around it (equation 4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half, taps = width // 2, _SMALL**2 * (width // _SHARING)
        self.cv1 = ConvNorm(width, half)
        self.cv2 = ConvNorm(half, half, _LARGE, groups=half)
        self.cv3 = ConvNorm(half, half)
        self.cv4 = nn.Conv2d(half, taps, 1)
        self.norm = GroupNorm(width // _SHARING, taps)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C / 8 * 9, H, W): nine taps of the first kernel, of the second and so on."""
        x = F.relu(self.cv3(self.cv2(F.relu(self.cv1(x)))))
        taps: Tensor = self.norm(self.cv4(x))
        return taps


class Ska(nn.Module):
    """Small-kernel aggregation: each place has its own 3x3 kernels, C / 8 of them, used in turn (equation 5)."""

    def forward(self, x: Tensor, taps: Tensor) -> Tensor:
        """Features (N, C, H, W) and taps (N, C / 8 * 9, H, W) to (N, C, H, W)."""
        height, width = x.shape[2:]
        size = _SMALL**2
        turns = x.shape[1] * size // taps.shape[1]
        edge = _SMALL // 2
        padded = F.pad(x, (edge, edge, edge, edge))
        total = torch.zeros_like(x)
        for tap in range(size):
            row, column = divmod(tap, _SMALL)
            moved = padded[:, :, row : row + height, column : column + width]
            total = total + moved * torch.cat([taps[:, tap::size]] * turns, 1)
        return total


class _LsConv(nn.Module):
    """Perception with a large kernel, aggregation with small ones, added to the input (section 3.2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lkp = _Perception(width)
        self.ska = Ska()
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        y: Tensor = self.bn(self.ska(x, self.lkp(x))) + x
        return y


class _Attention(nn.Module):
    """Self-attention with a bias for each distance in rows and columns (LeViT, arXiv:2104.01136, section 4.2).

    Args:
        width: C.
        side: of the map.
    """

    attention_bias_idxs: Tensor

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        if width % _HEADS:
            raise ValueError(f"last width {width}: expected a multiple of {_HEADS}")
        keys = _HEADS * _KEY
        self.sizes = (keys, keys, width)
        self.qkv = ConvNorm(width, sum(self.sizes))
        self.proj = nn.Sequential(nn.ReLU(), ConvNorm(width, width, first=0.0))
        self.dw = ConvNorm(keys, keys, 3, groups=keys)
        self.attention_biases = nn.Parameter(torch.zeros(_HEADS, side**2))
        place = torch.arange(side)
        apart = (place[:, None] - place).abs()
        index = apart[:, None, :, None] * side + apart[None, :, None, :]
        self.register_buffer("attention_bias_idxs", index.reshape(side**2, side**2))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        n, width, height, across = x.shape
        places = height * across
        q, k, v = self.qkv(x).split(self.sizes, 1)
        q, k, v = (t.reshape(n, _HEADS, -1, places) for t in (self.dw(q), k, v))
        bias = self.attention_biases[:, self.attention_bias_idxs]
        weights = torch.softmax((q * _KEY**-0.5).transpose(2, 3) @ k + bias, -1)
        mixed: Tensor = self.proj((v @ weights.transpose(2, 3)).reshape(n, width, height, across))
        return mixed


class _Residual(nn.Module):
    """What ``m`` gives, added to its input."""

    def __init__(self, m: nn.Module) -> None:
        super().__init__()
        self.m = m

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        y: Tensor = x + self.m(x)
        return y


class _FeedForward(nn.Module):
    """Two 1x1 convolutions with ReLU between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pw1 = ConvNorm(width, 2 * width)
        self.pw2 = ConvNorm(2 * width, width, first=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        y: Tensor = self.pw2(F.relu(self.pw1(x)))
        return y


class _Squeeze(nn.Module):
    """Squeeze and excitation (arXiv:1709.01507); a quarter of the channels, in multiples of 8, between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        between = max(8, int(width / 4 + 4) // 8 * 8)
        self.fc1 = nn.Conv2d(width, between, 1)
        self.fc2 = nn.Conv2d(between, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        gate = torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)))))
        return x * gate


class _Block(nn.Module):
    """Depthwise filters or LS convolution in turn, attention for the latter in the last stage (figure 4)."""

    def __init__(self, width: int, side: int, number: int, last: bool) -> None:
        super().__init__()
        if number % 2 == 0:
            self.mixer: nn.Module = _RepDepthwise(width)
        else:
            self.mixer = _Residual(_Attention(width, side)) if last else _LsConv(width)
        self.se = nn.Identity() if number % 2 else _Squeeze(width)
        self.ffn = _Residual(_FeedForward(width))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        y: Tensor = self.ffn(self.se(self.mixer(x)))
        return y


def _stem(channels: int, width: int, patch: int) -> nn.Sequential:
    """Convolutions that halve the map each, down to one place for a patch."""
    steps = int(math.log2(patch))
    if patch != 2**steps or not steps:
        raise ValueError(f"patch {patch}: expected 2, 4, 8, ...")
    widths = [channels, *(width >> k for k in reversed(range(steps)))]
    layers: list[nn.Module] = []
    for k in range(steps):
        layers += [ConvNorm(widths[k], widths[k + 1], 3, 2), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class LsNet(nn.Module):
    """LSNet with its four stages.

    Args:
        classes: length of the logits.
        channels: of the input.
        side: of the input.
        patch: side of the patches that become one place of the first map: 2, 4 or 8.
        widths: channels of each stage, multiples of 8.
        depths: blocks of each stage; at least two in the last, so that there is attention.
        distilled: with a second head.
    """

    def __init__(
        self,
        classes: int,
        channels: int,
        side: int,
        patch: int,
        widths: Sequence[int],
        depths: Sequence[int],
        distilled: bool,
    ) -> None:
        super().__init__()
        if len(widths) != _STAGES or len(depths) != _STAGES or depths[-1] < 2 or any(w % _SHARING for w in widths):
            raise ValueError("expected four widths, multiples of 8, and four depths, the last at least 2")
        self.classes, self.channels, self.input_size = classes, channels, (side, side)
        keep_side(self, side)
        self.normalize = Normalize(IMAGENET, channels)
        self.patch_embed = _stem(channels, widths[0], patch)
        side = -(-side // patch)
        for k, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            layers: list[nn.Module] = []
            if k:
                side, before = -(-side // 2), widths[k - 1]
                layers = [ConvNorm(before, before, 3, 2, before), ConvNorm(before, width)]
            layers += [_Block(width, side, number, k == _STAGES - 1) for number in range(depth)]
            self.add_module(f"blocks{k + 1}", nn.Sequential(*layers))
        self.head = _NormLinear(widths[-1], classes)
        self.distilled = distilled
        if distilled:
            self.head_dist = _NormLinear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, side, side) in [0, 1] to logits (N, classes)."""
        x = self.patch_embed(self.normalize(x))
        for k in range(_STAGES):
            x = self.get_submodule(f"blocks{k + 1}")(x)
        x = x.mean((2, 3))
        logits: Tensor = self.head(x)
        return (logits + self.head_dist(x)) * 0.5 if self.distilled else logits


def _sized_after(state: Mapping[str, Tensor]) -> LsNet:
    merged = "head.weight" in state
    end = ".weight" if merged else ".c.weight"
    stem = [state[f"patch_embed.{2 * k}{end}"] for k in range(count(state, "patch_embed."))]
    widths = [stem[-1].shape[0], *(state[f"blocks{k}.1{end}"].shape[0] for k in range(2, _STAGES + 1))]
    depths = [count(state, "blocks1."), *(count(state, f"blocks{k}.") - 2 for k in range(2, _STAGES + 1))]
    classes = state["head.weight" if merged else "head.l.weight"].shape[0]
    distilled = any(k.startswith("head_dist.") for k in state)
    side = side_in(state)
    module = LsNet(classes, stem[0].shape[1], side, 2 ** len(stem), widths, depths, distilled)
    return merge_all(module) if merged else module


def from_state(state: Mapping[str, Tensor], path: Path) -> LsNet:
    """The network whose sizes are read off the tensors; as trained and merged alike.

    Raises:
        WeightsError: these are not LSNet's weights.
    """
    return load(_sized_after, state, path, ("LSNet", "patch_embed, blocks1 to blocks4 with lkp, head"))


def build(
    classes: int = 10,
    channels: int = 3,
    input_size: int = LARGE_SIDE,
    patch: int = 8,
    widths: Sequence[int] = (64, 128, 256, 384),
    depths: Sequence[int] = (0, 2, 8, 10),
    distilled: bool = False,
) -> nn.Module:
    """LSNet-T of table 1; ``input_size=32, patch=2`` for small images."""
    return LsNet(classes, channels, input_size, patch, widths, depths, bool(distilled)).train()


MODELS.add("lsnet-t")(
    Family(
        title="LSNet-T, large-small convolution for classification (CVPR 2025, arXiv:2503.23135)",
        task=CLASSIFICATION,
        build=build,
        from_state=from_state,
        marks=(
            "patch_embed.0.c.weight|patch_embed.0.weight",
            "blocks2.0.c.weight|blocks2.0.weight",
            "blocks4.3.mixer.m.attention_biases",
            "head.l.weight|head.weight",
        ),
        input_size=(LARGE_SIDE, LARGE_SIDE),
    )
)
