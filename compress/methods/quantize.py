"""Static int8 quantization after training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import pydantic

from compress.network import Network
from compress.registry import METHODS
from export.policy import QuantPolicy

if TYPE_CHECKING:
    from compress.task import Task

__all__ = ["Quantize"]


@METHODS.add("quantize")
@dataclass(frozen=True)
class Quantize:
    """Quantize weights and activations to 8 bits after training, by each runtime's own quantizer.

    Jacob et al., arXiv:1712.05877, section 2: symmetric weights, asymmetric activations whose ranges are the
    minimum and maximum seen on calibration crops.
    """

    granularity: Literal["channel", "tensor"] = "channel"
    """One weight scale for each output channel, or one for the whole tensor."""
    calibration_crops: Annotated[int, pydantic.Field(ge=1, le=4096)] = 64
    """How many crops the ranges are taken from."""
    calibration_size: Annotated[int, pydantic.Field(ge=8, le=512)] = 64
    """Side of a crop in LR pixels."""

    def __call__(self, network: Network, task: Task) -> Network:
        """The network with the policy that its exports follow."""
        policy = QuantPolicy(self.granularity, self.calibration_crops, self.calibration_size)
        return replace(network, policy=policy)
