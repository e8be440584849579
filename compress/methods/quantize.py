"""Static int8 quantization after training."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import pydantic

from compress.network import Network
from compress.registry import METHODS
from compress.workshop import ALONE, Workshop
from export.policy import Clipping, Correction, QuantPolicy, Rounding, Scheme

if TYPE_CHECKING:
    from compress.task import Task

__all__ = ["Quantize"]


@METHODS.add("quantize")
@dataclass(frozen=True)
class Quantize:
    """Quantize weights and activations to integers after training, by each runtime's own quantizer.

    Jacob et al., arXiv:1712.05877, section 2.  The fields are those of :class:`export.policy.QuantPolicy`, which
    says what each does; with the defaults the runtimes' tools decide every number.
    """

    granularity: Literal["channel", "tensor"] = "channel"
    calibration_crops: Annotated[int, pydantic.Field(ge=1, le=4096)] = 64
    calibration_size: Annotated[int, pydantic.Field(ge=8, le=512)] = 64
    scheme: Scheme = "asymmetric"
    clipping: Clipping = "min-max"
    weight_bits: Literal[4, 8] = 8
    packed: bool = False
    activation_bits: Literal[8, 16] = 8
    layer_bits: tuple[int, ...] = ()
    rounding: Rounding = "nearest"
    correction: Correction = "none"
    exact: bool = False
    ends: Literal["int8", "float"] = "int8"
    training_steps: Annotated[int, pydantic.Field(ge=0, le=1_000_000)] = 0

    def __call__(self, network: Network, task: Task, workshop: Workshop = ALONE) -> Network:
        """The network with the policy that its exports follow.

        Raises:
            UsageError: it consists of look-up tables.
        """
        network.ensure_quantizable()
        return replace(network, policy=QuantPolicy(**asdict(self)))
