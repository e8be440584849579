"""Small networks of one kind of operator, for timing; not of the zoo."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["build"]


class _Micro(nn.Module):
    def __init__(self, kind: str, width: int, depth: int, kernel: int) -> None:
        super().__init__()
        self.kind = kind
        self.depth = depth
        self.first, self.last = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 3, 3, padding=1)
        groups = width if kind == "depthwise" else 1
        has = kind in ("conv", "pointwise", "depthwise")
        layer = [nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=groups) for _ in range(depth)]
        self.layers = nn.ModuleList(layer if has else [])
        self.merge = nn.ModuleList(nn.Conv2d(2 * width, width, 1) for _ in range(depth if kind == "concat" else 0))

    def forward(self, x: Tensor) -> Tensor:
        """RGB to RGB of the same size."""
        y = start = self.first(x)
        for layer in self.layers:
            y = layer(y).relu()
        for layer in self.merge:
            y = layer(torch.cat([y, start], 1))
        for place in range(0 if self.layers or self.merge else self.depth):
            y = self._step(y, start, place)
        return torch.as_tensor(self.last(y))

    def _step(self, y: Tensor, start: Tensor, place: int) -> Tensor:
        if self.kind == "add":
            return y + start if place % 2 else start + y * 0.5
        if self.kind == "mul":
            return y * start
        if self.kind == "activation":
            return torch.tanh(y)
        if self.kind == "pool":
            return nn.functional.max_pool2d(y, 3, 1, 1)
        if self.kind == "resize":
            large = nn.functional.interpolate(y, scale_factor=2.0, mode="nearest")
            return nn.functional.max_pool2d(large, 2)
        return nn.functional.pixel_unshuffle(nn.functional.pixel_shuffle(y, 2), 2)


def build(kind: str, width: int, depth: int, kernel: int) -> nn.Module:
    """A convolution from RGB, ``depth`` steps of one kind, a convolution to RGB."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _Micro(kind, width, depth, kernel).eval()
