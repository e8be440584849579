"""ShiftLUT and TinyLUT: networks of one-dimensional look-up tables.

TinyLUT (Li et al., NeurIPS 2024) is ``shift = 0``; with more, every channel learns by how many pixels it is moved
before the channels are mixed (Zeng et al., arXiv:2603.00906).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from compress.models._separable import Affine, Functions, Part, SeparableNetwork
from compress.models._table_families import add_family
from export.separable.network import HIGH, LOW, WINDOW

__all__ = ["build"]

_NAME = "shift-lut"
_CHANNELS = (4, 8, 16, 32, 64)


def build(scale: int = 4, channels: int = 16, blocks: int = 1, width: int = 28, shift: int = 0) -> nn.Module:
    """The training form.

    Args:
        scale: 1 to 8.
        channels: 4, 8, 16, 32 or 64.
        blocks: pairs of a spatial and a pointwise layer behind the first pair.
        width: of the small networks.
        shift: pixels that a channel may be moved by; 0: none is.

    Raises:
        ValueError: sizes that make no network.
    """
    if channels not in _CHANNELS:
        raise ValueError(f"channels is {channels}, expected one of {', '.join(map(str, _CHANNELS))}")
    ranges = {"scale": (1, 8), "blocks": (0, 24), "width": (1, 256), "shift": (0, 15)}
    for name, (least, most) in ranges.items():
        found = {"scale": scale, "blocks": blocks, "width": width, "shift": shift}[name]
        if not least <= found <= most:
            raise ValueError(f"{name} is {found}, expected {least} to {most}")
    high, low = torch.arange(HIGH).float() - HIGH // 2, torch.arange(LOW).float()
    taps = len(WINDOW)
    parts = [Part("spread", Affine(taps, channels, high), Affine(taps, channels, low, -0.75))]
    for number in range(blocks + 1):
        if number:
            parts.append(Part("depthwise", Affine(taps, channels, high)))
        shifts = torch.zeros(channels, 2) if shift else None
        parts.append(Part("pointwise", Functions(channels, channels, width, 1), None, shifts, shift))
    joined = scale**2 == channels
    parts.append(Part("pointwise", Functions(channels, scale**2, width, 3, 0.0 if joined else 1.0)))
    network = SeparableNetwork(_NAME, parts, scale)
    network.register_buffer(f"{_NAME}_layout", torch.tensor([[scale, channels, blocks, width, shift]]))
    return network.train()


def _trained(name: str, layout: Tensor, state: Mapping[str, Tensor]) -> nn.Module:
    """The training form of a checkpoint."""
    return build(*layout[0].tolist())


add_family(_NAME, "ShiftLUT (arXiv:2603.00906), or TinyLUT with shift = 0: one-dimensional tables", build, _trained)
