"""Colours for calibration images that have none."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["tinted"]

_GREY = 0.02  # mean distance of the channels from their mean, of one
_DARKEST = 0.4


def tinted(images: Tensor, axis: int) -> Tensor:
    """The inputs, the grey ones among them each under a light of a random colour.

    What is fitted to grey images alone is free to be anything along colours: there rounding noise outweighs the
    signal, and a least-squares fit shrinks the weights.

    Args:
        images: (N, ...) of 256 levels in [0, 1].
        axis: of the channels; other numbers of channels than three are left alone.

    Returns:
        the same shape and levels; coloured images untouched, and the same light each time.
    """
    if images.dim() != 4 or images.shape[axis] != 3:
        return images
    distance = (images - images.mean(axis, keepdim=True)).abs().mean((1, 2, 3))
    lights = _DARKEST + (1 - _DARKEST) * torch.rand(len(images), 3, generator=torch.Generator().manual_seed(0))
    shape = [len(images), 1, 1, 1]
    shape[axis] = 3
    changed = (images * lights.reshape(shape) * 255).round() / 255
    return torch.where((distance < _GREY).reshape(-1, 1, 1, 1), changed, images)
