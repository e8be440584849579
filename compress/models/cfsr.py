"""CFSR: ConvFormer-based super-resolution (Wu et al., IEEE TIP 2024, arXiv:2401.05633).

A transformer's block without attention: a 9x9 depthwise convolution modulates (is multiplied with) a linear
map of the features, and the feed-forward network has a 3x3 depthwise convolution that is trained beside fixed
Sobel and Laplacian filters of learned strength.  The forward pass and the names of the tensors follow the
official code (Aitical/CFSR), whose published weights are in the merged form.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn

from compress.errors import WeightsError
from compress.network import SUPER_RESOLUTION, Family
from compress.registry import MODELS
from compress.weights import load_into

__all__ = ["Cfsr", "EdgeConv", "EdgeFeedForward", "build", "from_state"]

_MEAN = (0.4488, 0.4371, 0.4040)
_FILTERS = {
    "sobel_x": ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0)),
    "sobel_y": ((1.0, 2.0, 1.0), (0.0, 0.0, 0.0), (-1.0, -2.0, -1.0)),
    "laplacian": ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0)),
}
"""The official code sets the Laplacian's upper 1 in the corner; filters come with a checkpoint, so both load."""
_STRENGTH = 1e-3  # spread of the filters' first strengths and biases
_LAYER_SCALE = 1e-6
_EPSILON = 1e-6


class _LayerNorm(nn.Module):
    """Normalisation over the channels of each pixel, (N, C, H, W) to the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        last = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, _EPSILON)
        return last.permute(0, 3, 1, 2)


class _Edges(nn.Module):
    """Depthwise Sobel and Laplacian filters of learned strength (arXiv:2401.05633, section III-C).

    The filters are parameters of the official checkpoints, never trained; here they are buffers.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, taps in _FILTERS.items():
            self.register_parameter(f"scale_{name}", nn.Parameter(torch.randn(channels, 1, 1, 1) * _STRENGTH))
            self.register_parameter(f"{name}_bias", nn.Parameter(torch.randn(channels) * _STRENGTH))
            self.register_buffer(f"mask_{name}", torch.tensor(taps).repeat(channels, 1, 1, 1))

    def edges(self) -> tuple[Tensor, Tensor]:
        """Weight (C, 1, 3, 3) and bias (C,) of the sum of the three; differentiable."""
        pairs = [(f"scale_{name}", f"mask_{name}") for name in _FILTERS]
        weights = [self.get_parameter(scale) * self.get_buffer(mask) for scale, mask in pairs]
        biases = [self.get_parameter(f"{name}_bias") for name in _FILTERS]
        return weights[0] + weights[1] + weights[2], biases[0] + biases[1] + biases[2]


class _PlainMixer(nn.Module):
    """The large depthwise convolution in its merged form."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.lkb_reparam = _depthwise(channels, kernel)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.lkb_reparam(x)
        return y


class EdgeConv(_Edges):
    """The large depthwise convolution, trained beside a 3x3 one and the edge filters.

    Every branch pads the same input with zeros and adds its bias afterwards, so the sum of the kernels is exact
    at borders too; the forward pass convolves once with that sum.
    """

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__(channels)
        self.lkb_origin = _depthwise(channels, kernel)
        self.small_conv = _depthwise(channels, 3)

    def kernel(self) -> tuple[Tensor, Tensor]:
        """Weight (C, 1, k, k) and bias (C,) of the equal plain convolution; differentiable."""
        weight, bias = self.edges()
        ring = (self.lkb_origin.kernel_size[0] - 3) // 2
        small = F.pad(weight + self.small_conv.weight, (ring, ring, ring, ring))
        return self.lkb_origin.weight + small, _bias(self.lkb_origin) + _bias(self.small_conv) + bias

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        weight, bias = self.kernel()
        return F.conv2d(x, weight, bias, padding=weight.shape[2] // 2, groups=weight.shape[0])

    def merge(self) -> _PlainMixer:
        """The equal plain convolution."""
        plain = _PlainMixer(self.lkb_origin.out_channels, self.lkb_origin.kernel_size[0])
        _copy(self.kernel(), plain.lkb_reparam)
        return plain


class _FeedForward(nn.Module):
    """1x1, GELU, depthwise 3x3 with GELU and a skip, 1x1 (arXiv:2401.05633, section III-C); merged form."""

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        self.norm = _LayerNorm(channels)
        self.fc1 = nn.Conv2d(channels, channels * ratio, 1)
        self.pos = _depthwise(channels * ratio, 3)
        self.fc2 = nn.Conv2d(channels * ratio, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        wide = F.gelu(self.fc1(self.norm(x)))
        y: Tensor = self.fc2(wide + F.gelu(self.pos(wide)))
        return y


class EdgeFeedForward(_Edges):
    """The feed-forward network whose depthwise 3x3 is trained beside the edge filters; exact at borders."""

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__(channels * ratio)
        self.norm = _LayerNorm(channels)
        self.fc1 = nn.Conv2d(channels, channels * ratio, 1)
        self.pos = _depthwise(channels * ratio, 3)
        self.fc2 = nn.Conv2d(channels * ratio, channels, 1)

    def kernel(self) -> tuple[Tensor, Tensor]:
        """Weight (C*ratio, 1, 3, 3) and bias (C*ratio,) of the equal plain convolution; differentiable."""
        weight, bias = self.edges()
        return self.pos.weight + weight, _bias(self.pos) + bias

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        weight, bias = self.kernel()
        wide = F.gelu(self.fc1(self.norm(x)))
        y: Tensor = self.fc2(wide + F.gelu(F.conv2d(wide, weight, bias, padding=1, groups=weight.shape[0])))
        return y

    def merge(self) -> _FeedForward:
        """The equal network with one plain depthwise convolution."""
        channels = self.fc1.in_channels
        plain = _FeedForward(channels, self.fc1.out_channels // channels)
        plain.load_state_dict({k: v for k, v in self.state_dict().items() if k in plain.state_dict()})
        _copy(self.kernel(), plain.pos)
        return plain


class _Modulation(nn.Module):
    """The large-kernel mixer: a depthwise map of the features times a linear one (arXiv:2401.05633, III-B)."""

    def __init__(self, channels: int, kernel: int, mixer_edges: bool) -> None:
        super().__init__()
        self.norm = _LayerNorm(channels)
        mixer = EdgeConv(channels, kernel) if mixer_edges else _PlainMixer(channels, kernel)
        self.a = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.GELU(), mixer)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        y: Tensor = self.proj(self.a(x) * self.v(x))
        return y


class _Block(nn.Module):
    """Mixer and feed-forward network, each with a learned gain and a skip."""

    def __init__(self, channels: int, kernel: int, ratio: int, edges: tuple[bool, bool]) -> None:
        super().__init__()
        self.attn = _Modulation(channels, kernel, edges[0])
        self.mlp = (EdgeFeedForward if edges[1] else _FeedForward)(channels, ratio)
        self.layer_scale_1 = nn.Parameter(torch.full((channels,), _LAYER_SCALE))
        self.layer_scale_2 = nn.Parameter(torch.full((channels,), _LAYER_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.layer_scale_1[:, None, None] * self.attn(x)
        y: Tensor = x + self.layer_scale_2[:, None, None] * self.mlp(x)
        return y


class _Group(nn.Module):
    """Blocks and a 1x1 convolution with a skip over that one alone."""

    def __init__(self, blocks: list[_Block], channels: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        y: Tensor = self.conv(x) + x
        return y


class Cfsr(nn.Module):
    """CFSR.

    Args:
        scale: enlargement.
        channels: width C.
        depths: number of blocks in each group.
        kernel: side of the mixer's depthwise convolution, odd.
        ratio: the feed-forward network is this many times wider.
        edges: whether the mixer, and whether the feed-forward network, is in the form for training.
    """

    mean: Tensor

    def __init__(
        self,
        scale: int,
        channels: int,
        depths: tuple[int, ...],
        kernel: int,
        ratio: int,
        edges: tuple[bool, bool] = (False, False),
    ) -> None:
        super().__init__()
        self.scale = scale
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.conv_first = nn.Conv2d(3, channels, 3, padding=1)
        self.layers = nn.ModuleList(
            _Group([_Block(channels, kernel, ratio, edges) for _ in range(depth)], channels) for depth in depths
        )
        self.norm = _LayerNorm(channels)
        self.conv_after_body = nn.Conv2d(channels, channels, 3, padding=1)
        self.upsample = nn.Sequential(nn.Conv2d(channels, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] to (N, 3, scale*H, scale*W)."""
        shallow = self.conv_first(x - self.mean)
        deep = shallow
        for group in self.layers:
            deep = group(deep)
        enlarged: Tensor = self.upsample(self.conv_after_body(self.norm(deep)) + shallow)
        return enlarged + self.mean


def _depthwise(channels: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)


def _bias(layer: nn.Conv2d) -> Tensor:
    if layer.bias is None:
        raise TypeError("CFSR's convolutions have biases")
    return layer.bias


def _copy(kernel: tuple[Tensor, Tensor], layer: nn.Conv2d) -> None:
    with torch.no_grad():
        layer.weight.copy_(kernel[0])
        _bias(layer).copy_(kernel[1])


def from_state(state: Mapping[str, Tensor], path: Path) -> Cfsr:
    """The network whose sizes are read off the tensors; merged and training checkpoints alike.

    Raises:
        WeightsError: these are not CFSR weights.
    """
    block = "layers.0.blocks.0"
    edges = (f"{block}.attn.a.2.lkb_origin.weight" in state, f"{block}.mlp.mask_sobel_x" in state)
    mixer = f"{block}.attn.a.2.{'lkb_origin' if edges[0] else 'lkb_reparam'}.weight"
    first, large, wide, last = (
        state.get(k) for k in ("conv_first.weight", mixer, f"{block}.mlp.fc1.weight", "upsample.0.weight")
    )
    if first is None or large is None or wide is None or last is None:
        found = ", ".join(sorted({k.split(".", 1)[0] for k in state})[:10])
        raise WeightsError(
            f"weights {path} are not CFSR's: expected conv_first, layers with large-kernel mixers, norm, "
            f"conv_after_body, upsample; found {found}; choose another --model"
        )
    channels, scale = first.shape[0], round((last.shape[0] / 3) ** 0.5)
    if first.shape[1] != 3 or last.shape[0] != 3 * scale**2:
        raise WeightsError(
            f"weights {path} take {first.shape[1]} channels and give {last.shape[0]} sub-pixels, expected 3 and "
            "3 * scale * scale; use a checkpoint of the RGB network"
        )
    module = Cfsr(scale, channels, _depths(state), large.shape[-1], max(wide.shape[0] // channels, 1), edges)
    load_into(module, state, path)
    return module.eval()


def _depths(state: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Number of blocks of each group."""
    places = {tuple(k.split(".")[1:4:2]) for k in state if k.startswith("layers.") and ".blocks." in k}
    groups = sorted({int(group) for group, _ in places})
    return tuple(sum(int(group) == g for group, _ in places) for g in groups)


def build(
    scale: int = 4, channels: int = 48, groups: int = 2, blocks: int = 6, kernel: int = 9, ratio: int = 2
) -> nn.Module:
    """CFSR in the form for training, with the official code's first values.

    Raises:
        ValueError: an even kernel, or one smaller than the 3x3 that is trained beside it.
    """
    if kernel < 3 or kernel % 2 == 0:
        raise ValueError(f"kernel {kernel} has no centre or is smaller than 3; give an odd number from 3 on")
    return Cfsr(scale, channels, (blocks,) * groups, kernel, ratio, edges=(True, True)).train()


MODELS.add("cfsr")(
    Family(
        title="CFSR, x2 to x4 super-resolution with large-kernel mixers (IEEE TIP 2024, arXiv:2401.05633)",
        task=SUPER_RESOLUTION,
        build=build,
        from_state=from_state,
        marks=(
            "conv_first.weight",
            "layers.0.blocks.0.attn.a.2.lkb_reparam.weight|layers.0.blocks.0.attn.a.2.lkb_origin.weight",
            "layers.0.blocks.0.mlp.pos.weight",
            "upsample.0.weight",
        ),
    )
)
