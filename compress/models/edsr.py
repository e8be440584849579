"""EDSR: enhanced deep residual networks without batch norm (Lim et al., CVPRW 2017, arXiv:1707.02921).

Tensors are named as in the authors' code (sanghyun-son/EDSR-PyTorch), whose checkpoints load: they see values from 0 to
255 less the mean of DIV2K.  Here values go from 0 to 1, so their biases are divided by 255, which changes nothing else:
all between is linear or a rectifier.  The published large network, 256 channels, adds a tenth of each residual.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from compress.errors import WeightsError
from compress.network import SUPER_RESOLUTION, Family
from compress.registry import MODELS
from compress.weights import load_into

__all__ = ["Edsr", "build", "from_state"]

_MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K's red, green and blue
_STEPS = {2: (2,), 3: (3,), 4: (2, 2)}
_LARGE, _LARGE_SHARE = 256, 0.1


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class _Residual(nn.Module):
    """3x3, ReLU, 3x3, and the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv(width, width), nn.ReLU(), _conv(width, width))
        self.share = _LARGE_SHARE if width >= _LARGE else 1.0

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        found: Tensor = self.body(x)
        return x + (found if self.share == 1.0 else self.share * found)


class Edsr(nn.Module):
    """EDSR.

    Args:
        width: channels.
        blocks: residual blocks.
        scale: enlargement, 2 to 4.
    """

    mean: Tensor

    def __init__(self, width: int, blocks: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.head = nn.Sequential(_conv(3, width))
        self.body = nn.Sequential(*(_Residual(width) for _ in range(blocks)), _conv(width, width))
        enlarging: list[nn.Module] = []
        for step in _STEPS[scale]:
            enlarging += [_conv(width, width * step**2), nn.PixelShuffle(step)]
        self.tail = nn.Sequential(nn.Sequential(*enlarging), _conv(width, 3))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] to (N, 3, scale*H, scale*W)."""
        shallow = self.head(x - self.mean)
        enlarged: Tensor = self.tail(shallow + self.body(shallow)) + self.mean
        return enlarged


def _from_authors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their tensors for values from 0 to 1, without the layers that shift by the mean."""
    spread = float(-state["sub_mean.bias"][0] / _MEAN[0])
    kept = {name: value for name, value in state.items() if not name.startswith(("sub_mean.", "add_mean."))}
    return {name: value / spread if name.endswith("bias") else value for name, value in kept.items()}


def from_state(state: Mapping[str, Tensor], path: Path) -> nn.Module:
    """The network whose sizes are read off the tensors.

    Raises:
        WeightsError: these are not EDSR's.
    """
    if "sub_mean.bias" in state:
        state = _from_authors(state)
    first, up = state.get("head.0.weight"), state.get("tail.0.0.weight")
    if first is None or up is None or first.dim() != 4 or up.dim() != 4:
        raise WeightsError(
            f"weights {path} are not EDSR's: expected convolutions head.0, body and tail.0.0; found "
            f"{', '.join(list(state)[:6])}; choose another --model"
        )
    scale = 4 if "tail.0.2.weight" in state else round((up.shape[0] / first.shape[0]) ** 0.5)
    if scale not in _STEPS:
        raise WeightsError(f"weights {path} are EDSR's for x{scale}, expected x2, x3 or x4; choose another --model")
    blocks = sum(name.startswith("body.") and name.endswith(".body.0.weight") for name in state)
    module = Edsr(first.shape[0], blocks, scale)
    load_into(module, state, path)
    return module.eval()


def build(scale: int = 4, width: int = 64, blocks: int = 16) -> nn.Module:
    """EDSR, by default the published baseline, with torch's own start as in the authors' code.

    Raises:
        ValueError: no such scale.
    """
    if scale not in _STEPS:
        raise ValueError(f"scale is {scale}, expected 2, 3 or 4")
    return Edsr(width, blocks, scale).train()


MODELS.add("edsr")(
    Family(
        title="EDSR, baseline and large, without batch norm (CVPRW 2017, arXiv:1707.02921)",
        task=SUPER_RESOLUTION,
        build=build,
        from_state=from_state,
        marks=("head.0.weight", "body.0.body.0.weight", "tail.0.0.weight", "tail.1.weight"),
    )
)
