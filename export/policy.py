"""How a network is to be quantized, said once and realised by each runtime's own quantizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["QuantPolicy"]


@dataclass(frozen=True)
class QuantPolicy:
    """Post-training static quantization: int8 weights (symmetric), 8-bit activations (asymmetric, min-max)."""

    granularity: Literal["channel", "tensor"] = "channel"
    """One weight scale for each output channel, or one for the whole tensor."""
    calibration_crops: int = 64
    """How many crops the activation ranges are taken from."""
    calibration_size: int = 64
    """Side of a crop in LR pixels."""
