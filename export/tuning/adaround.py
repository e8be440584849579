"""Weights rounded up or down as their layer's output wants it, by gradient descent."""

from __future__ import annotations

import torch
from torch import Tensor

from export.graph.ir import Grid

__all__ = ["adaround"]

_STEPS = 500
_WARM = 0.2  # of the steps, before values are pressed to 0 or 1
_RATE = 0.1
_LOW, _HIGH = -0.1, 1.1  # of the stretched sigmoid
_PRESSURE = 2.0
_SHARP = (20.0, 2.0)  # the regulariser's exponent, from the first step to the last


def adaround(rows: Tensor, moments: Tensor, scale: Tensor, grid: Grid) -> Tensor:
    """Weights on their grid that change the layer's output least (Nagel et al., arXiv:2004.10568, equations 21 to 24).

    The squared change of the output is a quadratic form in the inputs' second moments, so that no input is run
    again.  A row whose rounding to nearest is better after all keeps that.

    Args:
        rows: weights (G, O, F).
        moments: of the inputs (G, F, F).
        scale: of each row, broadcastable to (G, O, 1).
        grid: its ``high`` bounds the integers on both sides.

    Returns:
        real weights (G, O, F).
    """
    steps = rows / scale
    below = torch.floor(steps).clamp(-grid.high, grid.high - 1)
    moments = moments / moments.diagonal(dim1=1, dim2=2).mean().clamp(min=1e-30)
    share = ((steps - below).clamp(0.01, 0.99) - _LOW) / (_HIGH - _LOW)
    logits = torch.logit(share).requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=_RATE)
    with torch.enable_grad():
        for done in range(_STEPS):
            up = _stretched(logits)
            change = below + up - steps
            loss = ((change @ moments) * change).sum()
            progress = (done / _STEPS - _WARM) / (1 - _WARM)
            if progress > 0:
                sharp = _SHARP[1] + (_SHARP[0] - _SHARP[1]) * (1 - progress)
                loss = loss + _PRESSURE * (1 - (2 * up - 1).abs().pow(sharp)).sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    chosen = below + (_stretched(logits.detach()) > 0.5)
    nearest = torch.round(steps).clamp(-grid.high, grid.high)
    better = _change(chosen, steps, moments) <= _change(nearest, steps, moments)
    return torch.where(better, chosen, nearest) * scale


def _stretched(logits: Tensor) -> Tensor:
    return (torch.sigmoid(logits) * (_HIGH - _LOW) + _LOW).clamp(0, 1)


def _change(integers: Tensor, steps: Tensor, moments: Tensor) -> Tensor:
    """Of each row's output, squared."""
    change = integers - steps
    return ((change @ moments) * change).sum(2, keepdim=True)
