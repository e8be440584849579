"""The cut: a plain module with smaller tensors."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compress.channels.graph import Dependencies
from compress.channels.widths import resized

__all__ = ["cut"]


def cut(module: nn.Module, found: Dependencies, kept: NDArray[np.bool_]) -> nn.Module:
    """A copy of a module without the channels that are not kept.

    Args:
        module: the one that the dependencies were read off.
        found: which index of which tensor belongs to which unit.
        kept: for every unit whether it stays.
    """
    tensors = dict((*module.named_parameters(), *module.named_buffers()))
    smaller = {}
    for name, labels in found.places.items():
        value = tensors.get(name)
        if value is None or all(kept[ids].all() for ids in labels.values()):
            continue
        for axis, ids in labels.items():
            value = value.index_select(axis, torch.from_numpy(np.flatnonzero(kept[ids])).to(value.device))
        smaller[name] = value.detach().clone()
    return resized(module, smaller)
