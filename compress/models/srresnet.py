"""SRResNet, the generator of SRGAN (Ledig et al., CVPR 2017, arXiv:1609.04802), with and without batch norm.

Without it stands MSRResNet, the form that benchmarks use (XPixelGroup/BasicSR, srresnet_arch.py; checkpoints of ESRGAN
and BasicSR); with it the network of the paper, named as in Lornatang/SRGAN-PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from compress.errors import WeightsError
from compress.models.luminance import Bilinear
from compress.network import SUPER_RESOLUTION, Family
from compress.registry import MODELS
from compress.weights import load_into

__all__ = ["Msrresnet", "Srresnet", "build", "from_state"]

_STEPS = {2: (2,), 3: (3,), 4: (2, 2)}
_SLOPE = 0.1


class _Residual(nn.Module):
    """3x3, ReLU, 3x3 and a skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        features: Tensor = x + self.conv2(F.relu(self.conv1(x)))
        return features


class Msrresnet(nn.Module):
    """SRResNet without batch norm, over bilinear enlargement.

    Args:
        width: channels.
        blocks: residual blocks.
        scale: enlargement, 2 to 4.
    """

    def __init__(self, width: int, blocks: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        steps = _STEPS[scale]
        self.conv_first = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.Sequential(*(_Residual(width) for _ in range(blocks)))
        self.upconv1 = nn.Conv2d(width, width * steps[0] ** 2, 3, padding=1)
        if len(steps) == 2:
            self.upconv2 = nn.Conv2d(width, width * steps[1] ** 2, 3, padding=1)
        self.pixel_shuffle = nn.PixelShuffle(steps[0])
        self.conv_hr = nn.Conv2d(width, width, 3, padding=1)
        self.conv_last = nn.Conv2d(width, 3, 3, padding=1)
        self.base = Bilinear(scale)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] to (N, 3, scale*H, scale*W)."""
        features = self.body(F.leaky_relu(self.conv_first(x), _SLOPE))
        features = F.leaky_relu(self.pixel_shuffle(self.upconv1(features)), _SLOPE)
        if self.scale == 4:
            features = F.leaky_relu(self.pixel_shuffle(self.upconv2(features)), _SLOPE)
        enlarged: Tensor = self.base(x) + self.conv_last(F.leaky_relu(self.conv_hr(features), _SLOPE))
        return enlarged

    def start_as_published(self) -> None:
        """He's normal kernels times 0.1, zero biases, so that the first output is near the bilinear enlargement."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.kaiming_normal_(layer.weight)
                layer.weight.data.mul_(0.1)
                nn.init.zeros_(layer.bias)


class _FoldedResidual(nn.Module):
    """3x3, PReLU, 3x3 and a skip; the batch norms of :class:`_NormedResidual` are inside the convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.rcb = nn.Sequential(*_folded(*_normed(width)), nn.PReLU(), *_folded(*_normed(width)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        features: Tensor = x + self.rcb(x)
        return features


class _NormedResidual(_FoldedResidual):
    """3x3, batch norm, PReLU, 3x3, batch norm and a skip (figure 4 of the paper)."""

    def __init__(self, width: int) -> None:
        super().__init__(1)
        self.rcb = nn.Sequential(*_normed(width), nn.PReLU(), *_normed(width))

    def merge(self) -> _FoldedResidual:
        """The same with the batch norms inside the convolutions."""
        plain = _FoldedResidual(1)
        conv1, norm1, act, conv2, norm2 = self.rcb
        plain.rcb = nn.Sequential(*_folded(conv1, norm1), act, *_folded(conv2, norm2))
        return plain


class _Normed(nn.Sequential):
    """A 3x3 convolution and its batch norm."""

    def merge(self) -> nn.Sequential:
        """The same with the batch norm inside the convolution."""
        return nn.Sequential(*_folded(*self))


class _Enlarge(nn.Module):
    """3x3 to step² times the channels, PixelShuffle, PReLU."""

    def __init__(self, width: int, step: int) -> None:
        super().__init__()
        self.upsample_block = nn.Sequential(
            nn.Conv2d(width, width * step**2, 3, padding=1), nn.PixelShuffle(step), nn.PReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, step*H, step*W)."""
        features: Tensor = self.upsample_block(x)
        return features


def _normed(width: int) -> tuple[nn.Module, nn.Module]:
    """A 3x3 convolution and its batch norm."""
    return nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)


def _folded(conv: nn.Module, norm: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The one convolution that does what both do in evaluation mode, and nothing in the norm's place."""
    if not (isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)):
        raise TypeError(f"expected Conv2d and BatchNorm2d, found {type(conv).__name__} and {type(norm).__name__}")
    return fuse_conv_bn_eval(conv.eval(), norm.eval()), nn.Identity()


class Srresnet(nn.Module):
    """SRResNet of the paper.

    Args:
        width: channels.
        blocks: residual blocks.
        scale: enlargement, 2 to 4.
        norm: batch norm; False: folded into the convolutions.
    """

    def __init__(self, width: int, blocks: int, scale: int, norm: bool = True) -> None:
        super().__init__()
        self.scale = scale
        self.conv1 = nn.Sequential(nn.Conv2d(3, width, 9, padding=4), nn.PReLU())
        residual = _NormedResidual if norm else _FoldedResidual
        self.trunk = nn.Sequential(*(residual(width) for _ in range(blocks)))
        self.conv2 = _Normed(*_normed(width)) if norm else nn.Sequential(*_folded(*_normed(width)))
        self.upsampling = nn.Sequential(*(_Enlarge(width, step) for step in _STEPS[scale]))
        self.conv3 = nn.Conv2d(width, 3, 9, padding=4)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] to (N, 3, scale*H, scale*W)."""
        shallow = self.conv1(x)
        enlarged: Tensor = self.conv3(self.upsampling(shallow + self.conv2(self.trunk(shallow))))
        return enlarged


def _scale(first: Tensor, width: int, twice: bool) -> int:
    """The scale told by the first upsampling convolution and whether there is a second."""
    return 4 if twice else round((first.shape[0] / width) ** 0.5)


def _module(state: Mapping[str, Tensor]) -> nn.Module | None:
    """The network that these tensors fit, not loaded; None: neither."""
    entry, up = state.get("conv_first.weight"), state.get("upconv1.weight")
    if entry is not None and up is not None:
        scale = _scale(up, entry.shape[0], "upconv2.weight" in state)
        blocks = sum(k.startswith("body.") and k.endswith(".conv1.weight") for k in state)
        return Msrresnet(entry.shape[0], blocks, scale) if scale in _STEPS else None
    entry, up = state.get("conv1.0.weight"), state.get("upsampling.0.upsample_block.0.weight")
    if entry is not None and up is not None:
        scale = _scale(up, entry.shape[0], "upsampling.1.upsample_block.0.weight" in state)
        blocks = sum(k.startswith("trunk.") and k.endswith(".rcb.0.weight") for k in state)
        norm = "conv2.1.weight" in state
        return Srresnet(entry.shape[0], blocks, scale, norm) if scale in _STEPS else None
    return None


def from_state(state: Mapping[str, Tensor], path: Path) -> nn.Module:
    """MSRResNet or SRResNet, its sizes read off the tensors; batch norms loose or folded.

    Raises:
        WeightsError: these are weights of neither.
    """
    module = _module(state)
    if module is None:
        found = ", ".join(list(state)[:6])
        raise WeightsError(
            f"weights {path} are not SRResNet's: expected conv_first, body and upconv1, or with batch norm conv1, "
            f"trunk and upsampling, for x2, x3 or x4; found {found}; choose another --model"
        )
    load_into(module, state, path)
    return module.eval()


def build(scale: int = 4, width: int = 64, blocks: int = 16, batch_norm: bool = False) -> nn.Module:
    """MSRResNet started as in BasicSR, or with ``batch_norm`` the SRResNet of the paper, started by torch.

    Raises:
        ValueError: no such scale.
    """
    if scale not in _STEPS:
        raise ValueError(f"scale is {scale}, expected 2, 3 or 4")
    if batch_norm:
        return Srresnet(width, blocks, scale).train()
    module = Msrresnet(width, blocks, scale)
    module.start_as_published()
    return module.train()


MODELS.add("srresnet")(
    Family(
        title="SRResNet as MSRResNet, without batch norm (CVPR 2017, arXiv:1609.04802); batch_norm=1: the paper's",
        task=SUPER_RESOLUTION,
        build=build,
        from_state=from_state,
        marks=(
            "conv_first.weight|conv1.0.weight",
            "upconv1.weight|upsampling.0.upsample_block.0.weight",
            "body.0.conv1.weight|trunk.0.rcb.0.weight",
        ),
    )
)
