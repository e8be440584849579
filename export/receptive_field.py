"""How far around itself an output pixel looks, found by probing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Reach", "radius", "reach"]

_STEPS = (1, 2, 4, 8, 16, 32)
_TOLERANCE = 1e-4  # of the output's peak: float32 rounding of another kernel, not another computation


@dataclass(frozen=True)
class Reach:
    """How an image may be cut so that the parts give the whole."""

    halo: int | None
    """Radius in input pixels; None: the network looks at the whole image, or its values depend on its size."""
    step: int
    """Tiles must start at multiples of this."""


def radius(module: nn.Module, channels: int, scale: int, side: int = 129, unit: int = 1) -> int | None:
    """The receptive-field radius in input pixels; None when it reaches beyond the probe.

    A NaN is put at one input pixel and spreads to just those outputs whose computation touches it, whatever
    the weights (0 * NaN is NaN).  Exact for a unit of 1; for a network that computes in cells of ``unit``
    pixels, an upper bound for every position in the cell.

    Args:
        module: (1, channels, H, W) to (1, channels, scale*H, scale*W).
        channels: of the input.
        scale: enlargement.
        side: of the probe image; the largest radius that can be told is ``side // 2 - 1``.
        unit: the sides of an input must be multiples of this.
    """
    import torch

    side = -(-side // unit) * unit
    probe = torch.zeros(1, channels, side, side)
    centre = side // 2 // unit * unit
    probe[:, :, centre, centre] = float("nan")
    with torch.inference_mode():
        touched = module(probe).isnan().any(dim=1)[0]
    found = 0
    for axis in (0, 1):
        positions = touched.any(dim=axis).nonzero().flatten() // scale
        if len(positions) == 0:
            return None
        found = max(found, centre - int(positions.min()), int(positions.max()) - centre)
    return found + unit - 1 if found < min(centre, side - 1 - centre) else None


def reach(module: nn.Module, channels: int, scale: int, unit: int = 1) -> Reach:
    """Radius and grid of a network, each proved by comparing a tile with the whole.

    A strided or windowed network gives the same values only for tiles on its own grid, found by trying; one
    whose values depend on the image's size (pooling over it, resizing to it) has no radius.

    Args:
        module: (1, channels, H, W) to (1, channels, scale*H, scale*W).
        channels: of the input.
        scale: enlargement.
        unit: the sides of an input must be multiples of this.
    """
    found = radius(module, channels, scale, unit=unit)
    if found is None:
        return Reach(None, unit)
    for step in (s * unit for s in _STEPS if s * unit <= max(32, unit)):
        halo = found + step - unit  # the probe saw one position of the grid only
        if _tiles_equal_whole(module, channels, scale, halo, step):
            return Reach(halo, step)
    return Reach(None, unit)


def _tiles_equal_whole(module: nn.Module, channels: int, scale: int, halo: int, step: int) -> bool:
    """Whether a window that starts on the grid keeps the values it has in the whole, a halo from its edges."""
    import torch

    start = 3 * step
    side = -(-(2 * halo + 16) // step) * step
    length = start + side + 2 * step
    image = _smooth(channels, length)
    with torch.inference_mode():
        whole = module(image)
        part = module(image[..., start : start + side, start : start + side])
    inner = slice(halo * scale, (side - halo) * scale)
    there = slice((start + halo) * scale, (start + side - halo) * scale)
    expected = whole[..., there, there]
    peak = max(1.0, float(expected.abs().max()))
    return float((part[..., inner, inner] - expected).abs().max()) <= _TOLERANCE * peak


def _smooth(channels: int, side: int) -> Tensor:
    """(1, channels, side, side) in [0, 1], smooth with some grain; the same each time."""
    import torch

    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, channels, 9, 9, generator=random)
    grain = torch.rand(1, channels, side, side, generator=random)
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")
    return 0.8 * smooth + 0.2 * grain
