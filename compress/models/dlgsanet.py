"""DLGSANet: dynamic local and sparse global self-attention (Li et al., ICCV 2023, arXiv:2301.02031).

The forward pass and the names of the tensors follow the official code (NeonLeexiang/DLGSANet), whose dynamic
depthwise convolution is a CUDA kernel written for cupy; here it is plain torch.  At inference the global
attention runs in the windows that the official configurations set (``tlc_kernel``; Chu et al., arXiv:2112.04491):
48, 72 and 96 pixels for x4, x3 and x2, overlapping where the image is no multiple of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn

from compress.errors import WeightsError
from compress.models._windows import Cover, larger, smaller
from compress.network import SUPER_RESOLUTION, Family
from compress.registry import MODELS
from compress.weights import load_into

__all__ = [
    "DlgsaNet",
    "DynamicConv",
    "SparseAttention",
    "build_light",
    "build_tiny",
    "dynamic_convolution",
    "from_state",
]

_MEAN = (0.4488, 0.4371, 0.4040)
_SIDE = 7  # of the dynamic kernels
_BODY = "deep_feature_extraction"
_WINDOWS = {2: 96, 3: 72, 4: 48}
_REDUCTION = 4  # the network that predicts the kernels is this many times narrower
_EPSILON = 1e-12  # of torch's normalize


def dynamic_convolution(x: Tensor, kernels: Tensor, side: int) -> Tensor:
    """Depthwise convolution with kernels of their own for every pixel (arXiv:2301.02031, equation 3).

    The products of one row of taps are summed in one go, so that an 8-bit file rounds ``side`` partial sums and
    not ``side**2``.

    Args:
        x: (N, C, H, W), zero beyond its borders.
        kernels: (N, G*side*side, H, W), row by row; a kernel serves C/G neighbouring channels.
        side: of the kernels, odd.

    Returns:
        (N, C, H, W).
    """
    batch, channels, height, width = x.shape
    reach = side // 2
    groups = kernels.shape[1] // side**2
    padded = F.pad(x, (reach, reach, reach, reach)).reshape(batch * groups, -1, 1, height + side - 1, width + side - 1)
    shifted = torch.cat([padded[..., k : k + width] for k in range(side)], 2)
    weights = kernels.reshape(batch * groups, 1, side**2, height, width)
    sums = [(shifted[:, :, :, k : k + height] * weights[:, :, k * side : (k + 1) * side]).sum(2) for k in range(side)]
    total = sum(sums[1:], sums[0])
    return total.reshape(batch, channels, height, width)


class _Normalize(nn.Module):
    """Layer normalisation over the channels of each pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x.permute(0, 2, 3, 1))
        return y.permute(0, 3, 1, 2)


class _FeedForward(nn.Module):
    """The gated feed-forward network of Restormer (Zamir et al., arXiv:2111.09881, equation 3)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.project_in = nn.Conv2d(channels, 2 * hidden, 1, bias=False)
        self.dwconv = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False)
        self.project_out = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        y: Tensor = self.project_out(F.gelu(gate) * value)
        return y


class DynamicConv(nn.Module):
    """Predicts a kernel for every pixel and group of channels, and convolves with it (section 3.2).

    Args:
        channels: C.
        groups: G; a kernel serves C/G channels.
        side: of the kernels.
    """

    def __init__(self, channels: int, groups: int, side: int) -> None:
        super().__init__()
        self.side = side
        narrow = channels // _REDUCTION
        self.conv1 = nn.Sequential(
            nn.Conv2d(channels, narrow, 1), nn.Conv2d(narrow, narrow, side, padding=side // 2, groups=narrow)
        )
        self.conv2 = nn.Sequential(nn.Conv2d(narrow, side**2 * groups, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return dynamic_convolution(x, self.conv2(self.conv1(x)), self.side)


class _LocalAttention(nn.Module):
    """Multi-head dynamic local self-attention: a dynamic convolution between two linear maps (section 3.2)."""

    def __init__(self, channels: int, groups: int, side: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(channels, channels, 1, bias=False)
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.conv = DynamicConv(channels, groups, side)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv1(self.conv(self.conv0(x)))
        return y


class SparseAttention(nn.Module):
    """Attention between channels with ReLU in place of softmax (section 3.3, equations 5 and 6).

    Args:
        channels: C.
        heads: the attention is among the C/heads channels of a head.
        window: in evaluation mode, side of the pieces in which it looks at the image; None: all at once.
    """

    def __init__(self, channels: int, heads: int, window: int | None) -> None:
        super().__init__()
        self.window = window
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.qkv_dwconv = nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, groups=3 * channels, bias=False)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        qkv = self.qkv_dwconv(self.qkv(x))
        whole = self.training or self.window is None or _within(qkv.shape[2:], self.window)
        y: Tensor = self.project_out(self.attend(qkv) if whole else self._in_windows(qkv))
        return y

    def attend(self, qkv: Tensor) -> Tensor:
        """Queries, keys and values (N, 3*C, H, W) to (N, C, H, W).

        Queries and keys are divided by their lengths after the product, which is the same.
        """
        batch, triple, height, width = qkv.shape
        heads = self.temperature.shape[0]
        q, k, v = qkv.reshape(batch, 3, heads, triple // 3 // heads, height * width).unbind(1)
        lengths = [t.square().sum(-1, keepdim=True).sqrt().clamp(min=_EPSILON) for t in (q, k)]
        similarity = torch.matmul(q / lengths[0], (k / lengths[1]).transpose(-2, -1))
        weights = F.relu(similarity * self.temperature)
        return torch.matmul(weights, v).reshape(batch, triple // 3, height, width)

    def _in_windows(self, qkv: Tensor) -> Tensor:
        """The same in overlapping windows, the mean where they overlap (TLC, arXiv:2112.04491)."""
        batch, triple, height, width = qkv.shape
        rows, columns = (_cover(side, self.window or side, qkv.device) for side in (height, width))
        pieces = qkv.index_select(2, rows.inside.reshape(-1)).index_select(3, columns.inside.reshape(-1))
        pieces = pieces.reshape(batch, triple, rows.count, rows.side, columns.count, columns.side)
        pieces = pieces.permute(0, 2, 4, 1, 3, 5).reshape(-1, triple, rows.side, columns.side)
        done = self.attend(pieces).reshape(batch, rows.count, columns.count, triple // 3, rows.side, columns.side)
        done = done.permute(0, 3, 1, 4, 2, 5)
        done = done.reshape(batch, triple // 3, rows.count * rows.side, columns.count * columns.side)
        for axis, cover in ((2, rows), (3, columns)):
            ends = [done.index_select(axis, k * cover.side + place) for k, place in (cover.first, cover.last)]
            done = (ends[0] + ends[1]) * 0.5
        return done


def _within(sides: Sequence[int], window: int) -> bool:
    """Whether an image of known size fits a window; one whose size stays open in an export never does."""
    return all(isinstance(side, int) and side <= window for side in sides)


def _cover(length: int, window: int, device: torch.device) -> Cover:
    """As few windows as can, at steps as equal as can."""
    side = smaller(length, window)
    gaps = larger((length - 1) // side, 1)
    step = larger((length - side + gaps - 1) // gaps, 1)
    return Cover(length, side, step, device)


class _LocalLayer(nn.Module):
    """Local attention and feed-forward network, both behind a normalisation and with a skip."""

    def __init__(self, channels: int, groups: int, side: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = _Normalize(channels)
        self.IDynamicDWConv = _LocalAttention(channels, groups, side)
        self.norm2 = _Normalize(channels)
        self.IDynamic_ffn = _FeedForward(channels, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = self.IDynamicDWConv(self.norm1(x)) + x
        y: Tensor = self.IDynamic_ffn(self.norm2(x)) + x
        return y


class _GlobalLayer(nn.Module):
    """Sparse global attention and feed-forward network, both behind a normalisation and with a skip."""

    def __init__(self, channels: int, heads: int, window: int | None, hidden: int) -> None:
        super().__init__()
        self.norm3 = _Normalize(channels)
        self.restormer_attn = SparseAttention(channels, heads, window)
        self.norm4 = _Normalize(channels)
        self.restormer_ffn = _FeedForward(channels, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = self.restormer_attn(self.norm3(x)) + x
        y: Tensor = self.restormer_ffn(self.norm4(x)) + x
        return y


class _Group(nn.Module):
    """Layers, a 3x3 convolution, and a skip over all (section 3.1)."""

    def __init__(self, layers: list[nn.Module], channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers, nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x) + x
        return y


class DlgsaNet(nn.Module):
    """DLGSANet.

    Args:
        scale: enlargement.
        channels: width C.
        depths: number of blocks, each a local and a global layer, in each residual group.
        side: of the dynamic kernels.
        kernels: how many of them a pixel has, each for C/kernels channels.
        heads: of the global attention.
        hidden: width inside the feed-forward networks.
    """

    mean: Tensor

    def __init__(
        self,
        *,
        scale: int,
        channels: int,
        depths: tuple[int, ...],
        side: int,
        kernels: int,
        heads: int,
        hidden: int,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.overlap_embed = nn.Sequential(_Embedding(channels))
        body: list[nn.Module] = []
        for depth in depths:
            layers: list[nn.Module] = []
            for _ in range(depth):
                layers.append(_LocalLayer(channels, kernels, side, hidden))
                layers.append(_GlobalLayer(channels, heads, _WINDOWS.get(scale), hidden))
            body.append(_Group(layers, channels))
        self.deep_feature_extraction = nn.Sequential(*body, nn.Conv2d(channels, channels, 3, padding=1))
        self.upsample = nn.Sequential(nn.Conv2d(channels, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] to (N, 3, scale*H, scale*W)."""
        shallow = self.overlap_embed(x - self.mean)
        enlarged: Tensor = self.upsample(self.deep_feature_extraction(shallow) + shallow)
        return enlarged + self.mean


class _Embedding(nn.Module):
    """The first convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.proj(x)
        return y


def from_state(state: Mapping[str, Tensor], path: Path) -> DlgsaNet:
    """The network whose sizes are read off the tensors: tiny, light, or another.

    Raises:
        WeightsError: these are not DLGSANet weights.
    """
    local, attention = f"{_BODY}.0.body.0.IDynamicDWConv.conv", f"{_BODY}.0.body.1"
    names = (
        "overlap_embed.0.proj.weight",
        f"{local}.conv1.1.weight",
        f"{local}.conv2.0.weight",
        f"{attention}.restormer_attn.temperature",
        f"{attention}.restormer_ffn.project_out.weight",
        "upsample.0.weight",
    )
    if any(name not in state or state[name].dim() < 3 for name in names):
        found = ", ".join(sorted({k.split(".", 1)[0] for k in state})[:10])
        raise WeightsError(
            f"weights {path} are not DLGSANet's: expected overlap_embed, deep_feature_extraction with local and "
            f"sparse global layers, upsample; found {found}; choose another --model"
        )
    first, side, kernels, heads, hidden, last = (state[name].shape for name in names)
    scale = round((last[0] / 3) ** 0.5)
    if first[1] != 3 or last[0] != 3 * scale**2:
        raise WeightsError(
            f"weights {path} take {first[1]} channels and give {last[0]} sub-pixels, expected 3 and "
            "3 * scale * scale; use a checkpoint of the RGB network"
        )
    blocks = [k.split(".")[1] for k in state if k.endswith(".norm3.body.weight")]
    module = DlgsaNet(
        scale=scale,
        channels=first[0],
        depths=tuple(blocks.count(group) for group in sorted(set(blocks), key=int)),
        side=side[-1],
        kernels=kernels[0] // side[-1] ** 2,
        heads=heads[0],
        hidden=hidden[1],
    )
    load_into(module, state, path)
    return module.eval()


def build_tiny(
    scale: int = 4, channels: int = 48, groups: int = 3, blocks: int = 3, kernels: int = 8, heads: int = 6
) -> nn.Module:
    """DLGSANet-tiny with fresh values."""
    for what, number in (("kernels", kernels), ("heads", heads), ("its predictor's reduction", _REDUCTION)):
        if channels % number:
            raise ValueError(f"channels {channels} must be a multiple of {number} ({what})")
    sizes = {"channels": channels, "side": _SIDE, "kernels": kernels, "heads": heads, "hidden": 2 * channels}
    return DlgsaNet(scale=scale, depths=(blocks,) * groups, **sizes).train()


def build_light(
    scale: int = 4, channels: int = 48, groups: int = 4, blocks: int = 3, kernels: int = 8, heads: int = 6
) -> nn.Module:
    """DLGSANet-light with fresh values."""
    return build_tiny(scale, channels, groups, blocks, kernels, heads)


def _register(name: str, size: str, build: Callable[..., nn.Module]) -> None:
    MODELS.add(name)(
        Family(
            title=f"DLGSANet-{size}, x2 to x4 super-resolution, dynamic local and sparse global attention "
            "(ICCV 2023, arXiv:2301.02031)",
            task=SUPER_RESOLUTION,
            build=build,
            from_state=from_state,
            marks=("overlap_embed.0.proj.weight", f"{_BODY}.0.body.1.restormer_attn.temperature", "upsample.0.weight"),
        )
    )


_register("dlgsanet-tiny", "tiny", build_tiny)
_register("dlgsanet-light", "light", build_light)
