"""SR-LUT: one look-up table of a few pixels (Jo and Kim, CVPR 2021)."""

from __future__ import annotations

from torch import nn

from compress.models._table_families import Reading, Sizes, StageLayout, add_family, built
from compress.models._tables import Layer
from export.lut.network import PATTERNS

__all__ = ["build"]

_FORMS = {"V": "1x2", "F": "1x3", "S": "S"}


def build(scale: int = 4, form: str = "S", width: int = 64, depth: int = 4, interval_bits: int = 4) -> nn.Module:
    """SR-LUT in one of its forms: V reads 2 pixels, F 3, S 4.

    Raises:
        ValueError: sizes that make no network.
    """
    if form not in _FORMS:
        raise ValueError(f"form is {form!r}, expected one of {', '.join(_FORMS)}")
    sizes = Sizes(width, depth, interval_bits).checked("S")
    assert _FORMS[form] in PATTERNS
    layout = StageLayout(Layer(1, scale=scale), scale**2, (Reading(_FORMS[form], 0),))
    return built("sr-lut", [layout], sizes, "reflect")


add_family("sr-lut", "SR-LUT, one look-up table of 2 to 4 pixels (CVPR 2021)", build)
