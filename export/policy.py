"""How a network is to be quantized, said once and realised by each runtime's own quantizer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

__all__ = ["Clipping", "Correction", "QuantPolicy", "Rounding", "Scheme"]

Scheme = Literal["asymmetric", "symmetric", "symmetric-uint8", "power-of-two"]
Clipping = Literal["min-max", "percentile-99.99", "percentile-99.999", "mse", "kl", "density"]
Rounding = Literal["nearest", "gptq", "adaround"]
Correction = Literal["none", "bias", "least-squares"]


@dataclass(frozen=True)
class QuantPolicy:
    """Static quantization after training: symmetric integer weights, 8- or 16-bit activations.

    With the defaults a runtime's quantizer decides every number.  Any other choice keeps the structure that it
    wrote and puts our numbers into the file: ranges, weights, biases.
    """

    granularity: Literal["channel", "tensor"] = "channel"
    """One weight scale for each output channel, or one for the whole tensor."""
    calibration_crops: int = 64
    """How many crops the activation ranges are taken from."""
    calibration_size: int = 64
    """Side of a crop in LR pixels."""
    scheme: Scheme = "asymmetric"
    """Of activations: any zero; zero in the middle; from zero on where nothing is negative, else in the middle;
    in the middle with scales that are powers of two (weights' too)."""
    clipping: Clipping = "min-max"
    """Which part of the values seen keeps its place: all, all but a share, or what an error measure says."""
    weight_bits: Literal[4, 8] = 8
    """4: weights of 15 values, stored as 8-bit integers unless ``packed``."""
    packed: bool = False
    """Whether 4-bit weights are stored two in a byte; TFLite alone computes with them."""
    activation_bits: Literal[8, 16] = 8
    """16: symmetric 16-bit activations; TFLite alone has kernels for them, slow ones."""
    layer_bits: tuple[int, ...] = ()
    """For each layer with weights, in order of execution, its weight bits; empty: ``weight_bits`` for all."""
    rounding: Rounding = "nearest"
    """Of weights: each to the nearest; so that later ones make up for earlier ones (GPTQ); up or down by descent."""
    correction: Correction = "none"
    """What is refitted to the float network's outputs: nothing, each layer's bias, or weights and bias."""
    exact: bool = False
    """Whether images and constants are put on grids that lose nothing."""
    ends: Literal["int8", "float"] = "int8"
    """float: the first and the last layer with weights stay in float."""
    training_steps: int = 0
    """Steps of quantization-aware training towards the float network's outputs."""

    @property
    def stock(self) -> bool:
        """Whether the runtime's quantizer decides every number."""
        return self == self.as_stock

    @property
    def as_stock(self) -> QuantPolicy:
        """What the runtime's quantizer makes of it: our numbers left out."""
        stock = QuantPolicy(self.granularity, self.calibration_crops, self.calibration_size, ends=self.ends)
        bits = self.weight_bits if self.packed else 8
        return replace(stock, packed=self.packed, weight_bits=bits, activation_bits=self.activation_bits)

    @property
    def only_in_tflite(self) -> str:
        """The choice that other runtimes have no kernels for, in words; empty where there is none."""
        if self.activation_bits == 16:
            return "16-bit activations"
        return "packed 4-bit weights" if self.packed else ""
