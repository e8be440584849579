"""MuLUT: several look-up tables in each of several stages (Li et al., ECCV 2022, arXiv:2203.13563).

With ``window = 5, mix = true`` the taps are AutoLUT's learned samplers and residual mixing (Xu et al., CVPR 2025); with
``band = true`` the tables are those of diagonal-first compression (Li et al., CVPR 2024), trained as such.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from compress.models._table_families import Reading, Sizes, StageLayout, add_family, built, known_patterns
from compress.models._tables import Layer

__all__ = ["build"]


def build(scale: int = 4, patterns: str = "SDY", stages: int = 2, **sizes: Any) -> nn.Module:
    """MuLUT: all stages but the last give one plane; further sizes: :class:`Sizes`.

    Raises:
        ValueError: sizes that make no network.
    """
    names = known_patterns(patterns)
    inner = Sizes(**sizes).checked(patterns)
    if not 1 <= stages <= 8:
        raise ValueError(f"stages is {stages}, expected 1 to 8")
    layouts = []
    for stage in range(stages):
        last = stage == stages - 1
        readings = tuple(Reading(name, stage, stage - 1 if stage else None) for name in names)
        layer = Layer(len(names), scale=scale) if last else Layer(4 * len(names), 127)
        layouts.append(StageLayout(layer, scale**2 if last else 1, readings))
    return built("mulut", layouts, inner)


add_family("mulut", "MuLUT, stages of look-up tables (ECCV 2022, arXiv:2203.13563); window, mix: AutoLUT", build)
