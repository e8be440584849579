"""Any network of tables as a torch module."""

from __future__ import annotations

from torch import nn

from export.lut.network import Tables
from export.lut.torch_module import Lookup
from export.separable.network import Separable
from export.separable.torch_module import SeparableLookup

__all__ = ["module_of"]


def module_of(tables: Tables) -> nn.Module:
    """(N, C, H, W) in [0, 1] to (N, C, scale*H, scale*W), multiples of 1/255; each channel by itself.

    Raises:
        ExportError: sums that float32 does not hold.
    """
    return SeparableLookup(tables) if isinstance(tables, Separable) else Lookup(tables)
