"""SPF-LUT: look-up tables that refine channels and mix them (Li et al., CVPR 2024, Look-Up Table Compression).

Three blocks each give a channel to keep and one to go on with, a fourth gives the last channel, one table across the
four mixes them, and tables of each enlarge.  ``patterns = "S"`` with window, mix and band is AutoLUT's SPF-Light.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from compress.models._table_families import Reading, Sizes, StageLayout, add_family, built, known_patterns
from compress.models._tables import Layer

__all__ = ["build"]

_BLOCKS = 3


def build(scale: int = 4, patterns: str = "SDY", width: int = 32, **sizes: Any) -> nn.Module:
    """SPF-LUT; further sizes: :class:`Sizes`.

    Raises:
        ValueError: sizes that make no network.
    """
    names = known_patterns(patterns)
    inner = Sizes(width, **sizes).checked(patterns)
    again = Layer(4 * len(names), 127)
    layouts, kept, plane, before = [], [], 0, None
    for block in range(_BLOCKS + 1):
        last = block == _BLOCKS
        layouts.append(StageLayout(again, 1 if last else 2, tuple(Reading(n, plane, before) for n in names)))
        kept.append(2 * block + 1)
        plane, before = 2 * block + 2, plane
    layouts.append(StageLayout(Layer(1, 127, rotations=1), len(kept), across=tuple(kept)))
    mixed = range(2 * _BLOCKS + 2, 2 * _BLOCKS + 2 + len(kept))
    ups = tuple(Reading(n, plane, own) for own, plane in zip(kept, mixed, strict=True) for n in names)
    layouts.append(StageLayout(Layer(len(ups), scale=scale), scale**2, ups))
    return built("spf-lut", layouts, inner)


add_family("spf-lut", "SPF-LUT, look-up tables across channels (CVPR 2024); window, mix, band: SPF-Light", build)
