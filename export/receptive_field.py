"""How far around itself an output pixel looks, found by probing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

__all__ = ["radius"]


def radius(module: nn.Module, channels: int, scale: int, side: int = 129) -> int | None:
    """The receptive-field radius in input pixels, exactly; None when it reaches beyond the probe.

    A NaN is put at one input pixel and spreads to just those outputs whose computation touches it, whatever
    the weights (0 * NaN is NaN).

    Args:
        module: (1, channels, H, W) to (1, channels, scale*H, scale*W).
        channels: of the input.
        scale: enlargement.
        side: of the probe image, odd; the largest radius that can be told is ``side // 2 - 1``.
    """
    import torch

    probe = torch.zeros(1, channels, side, side)
    centre = side // 2
    probe[:, :, centre, centre] = float("nan")
    with torch.inference_mode():
        touched = module(probe).isnan().any(dim=1)[0]
    reach = 0
    for axis in (0, 1):
        positions = touched.any(dim=axis).nonzero().flatten() // scale
        if len(positions) == 0:
            return None
        reach = max(reach, centre - int(positions.min()), int(positions.max()) - centre)
    return reach if reach < centre else None
