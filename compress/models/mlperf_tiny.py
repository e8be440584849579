"""MLPerf Tiny's ResNet-8 and MobileNetV1-0.25 (Banbury et al., NeurIPS 2021 datasets track, arXiv:2106.07597).

The networks follow the Keras models of mlcommons/tiny (benchmark/training/image_classification/keras_model.py and
visual_wake_words/vww_model.py), whose ``.h5`` and float ``.tflite`` files load: layers have Keras's names, stride 2
pads as TensorFlow does, batch normalisation has Keras's epsilon 1e-3, and convolutions that it follows have a bias
all the same.  The softmax at their end is left out.  Each convolution and its batch normalisation is one module
that merges into one convolution, which is what a ``.tflite`` file holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn

from compress.models._classifier import Distinct, SameConv2d, shapes, with_counters
from compress.network import CLASSIFICATION, Family
from compress.registry import MODELS
from compress.weights import load_into

__all__ = ["ConvNorm", "MobileNetV1", "ResNet8", "build_mobilenet", "build_resnet"]

_KERAS_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
_AXES = {"kernel": (3, 2, 0, 1), "depthwise_kernel": (2, 3, 0, 1)}  # of Keras's kernels, in torch's order
_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)  # of MobileNetV1's depthwise convolutions
_DOUBLED = (0, 1, 3, 5, 11)  # the places after which MobileNetV1 has twice as many channels


class ConvNorm(nn.Module):
    """A convolution and batch normalisation, as Keras has them."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> None:
        super().__init__()
        self.conv = SameConv2d(inputs, outputs, kernel, stride, groups=groups)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, ceil(H / stride), ceil(W / stride))."""
        y: Tensor = self.norm(self.conv(x))
        return y

    def merge(self) -> SameConv2d:
        """The equal plain convolution (Jacob et al., arXiv:1712.05877, equation 14)."""
        conv, norm = self.conv, self.norm
        kernel, stride = conv.kernel_size[0], conv.stride[0]
        plain = SameConv2d(conv.in_channels, conv.out_channels, kernel, stride, groups=conv.groups)
        with torch.no_grad():
            gain = norm.weight / torch.sqrt(_values(norm.running_var) + norm.eps)
            plain.weight.copy_(conv.weight * gain.view(-1, 1, 1, 1))
            _values(plain.bias).copy_((_values(conv.bias) - _values(norm.running_mean)) * gain + norm.bias)
        return plain


def _values(tensor: Tensor | None) -> Tensor:
    if tensor is None:
        raise TypeError("these layers have biases and running statistics")
    return tensor


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, *, trained: bool) -> nn.Module:
    if trained:
        return ConvNorm(inputs, outputs, kernel, stride, groups)
    return SameConv2d(inputs, outputs, kernel, stride, groups=groups)


def _numbered(name: str, number: int) -> str:
    """Keras's name of a layer: ``conv2d``, ``conv2d_1`` and so on."""
    return f"{name}_{number}" if number else name


def _start(module: nn.Module) -> None:
    """Initial values as the Keras models have them: he_normal, biases zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(_values(layer.bias))


class ResNet8(nn.Module):
    """ResNet for 32x32 images: a convolution and three blocks of two, the last two of which halve the image.

    Args:
        width: channels of the first block; the next two double it.
        classes: length of the output.
        channels: of the input.
        trained: with batch normalisation; without, it is merged.
    """

    NORMED = tuple(_numbered("conv2d", n) for n in (0, 1, 2, 3, 4, 6, 7))
    """The convolutions that batch normalisation follows, in the order in which Keras numbers it."""
    LAST = "conv2d_8"

    def __init__(self, width: int, classes: int, channels: int = 3, trained: bool = True) -> None:
        super().__init__()
        self.classes, self.channels = classes, channels
        self.conv2d = _conv(channels, width, 3, trained=trained)
        self.conv2d_1 = _conv(width, width, 3, trained=trained)
        self.conv2d_2 = _conv(width, width, 3, trained=trained)
        self.conv2d_3 = _conv(width, 2 * width, 3, 2, trained=trained)
        self.conv2d_4 = _conv(2 * width, 2 * width, 3, trained=trained)
        self.conv2d_5 = SameConv2d(width, 2 * width, 1, 2)
        self.conv2d_6 = _conv(2 * width, 4 * width, 3, 2, trained=trained)
        self.conv2d_7 = _conv(4 * width, 4 * width, 3, trained=trained)
        self.conv2d_8 = SameConv2d(2 * width, 4 * width, 1, 2)
        self.dense = nn.Linear(4 * width, classes)
        _start(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] to logits (N, classes).

        The shortcuts' second ReLU changes nothing; without, litert-torch transposes around each padding.
        """
        x = F.relu(self.conv2d(x * 255.0))
        x = F.relu(x + self.conv2d_2(F.relu(self.conv2d_1(x))))
        x = F.relu(self.conv2d_5(F.relu(x)) + self.conv2d_4(F.relu(self.conv2d_3(x))))
        x = F.relu(self.conv2d_8(F.relu(x)) + self.conv2d_7(F.relu(self.conv2d_6(x))))
        logits: Tensor = self.dense(x.mean((2, 3), keepdim=True).flatten(1))
        return logits


class MobileNetV1(nn.Module):
    """MobileNet (Howard et al., arXiv:1704.04861, table 1) with ReLU, for 96x96 images.

    Args:
        width: channels of the first convolution; 8 is the paper's alpha of 0.25.
        classes: length of the output.
        channels: of the input.
        trained: with batch normalisation; without, it is merged.
    """

    NORMED = (
        "conv2d",
        *(name for n in range(13) for name in (_numbered("depthwise_conv2d", n), _numbered("conv2d", n + 1))),
    )
    """The convolutions, which batch normalisation follows, in order of execution."""
    LAST = "depthwise_conv2d_12"

    def __init__(self, width: int, classes: int, channels: int = 3, trained: bool = True) -> None:
        super().__init__()
        self.classes, self.channels = classes, channels
        self.conv2d = _conv(channels, width, 3, 2, trained=trained)
        for n, stride in enumerate(_STRIDES):
            outputs = 2 * width if n in _DOUBLED else width
            self.add_module(_numbered("depthwise_conv2d", n), _conv(width, width, 3, stride, width, trained=trained))
            self.add_module(_numbered("conv2d", n + 1), _conv(width, outputs, 1, trained=trained))
            width = outputs
        self.dense = nn.Linear(width, classes)
        _start(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] to logits (N, classes)."""
        for name in self.NORMED:
            x = F.relu(self.get_submodule(name)(x))
        logits: Tensor = self.dense(x.mean((2, 3), keepdim=True).flatten(1))
        return logits


def _from_keras(state: Mapping[str, Tensor], normed: Sequence[str]) -> dict[str, Tensor]:
    """Keras's names and layouts as torch's: kernels HWIO as OIHW, a dense layer's (in, out) as (out, in)."""
    trained = any(name.startswith("batch_normalization") for name in state)
    norms = {_numbered("batch_normalization", n): layer for n, layer in enumerate(normed)}
    found = {}
    for name, value in state.items():
        layer, _, part = name.partition("/")
        if layer in norms and part in _KERAS_NORM:
            found[f"{norms[layer]}.norm.{_KERAS_NORM[part]}"] = value
            continue
        if part in _AXES:
            value = value.permute(_AXES[part]) if value.dim() == 4 else value.t()
            part = "weight"
        found[f"{layer}.conv.{part}" if trained and layer in normed else f"{layer}.{part}"] = value
    return with_counters(found)


def _load(
    kind: type[ResNet8] | type[MobileNetV1], title: str, state: Mapping[str, Tensor], path: Path
) -> ResNet8 | MobileNetV1:
    if any("/" in name for name in state):
        state = _from_keras(state, kind.NORMED)
    trained = "conv2d.norm.weight" in state
    first, last = (
        f"{layer}.conv.weight" if trained and layer in kind.NORMED else f"{layer}.weight"
        for layer in ("conv2d", kind.LAST)
    )
    found = shapes(state, {first: 4, last: 4, "dense.weight": 2}, title, path)
    width, channels = found[first][:2]
    module = kind(width, found["dense.weight"][0], channels, trained)
    load_into(module, state, path)
    module.eval()
    return module


def resnet_from_state(state: Mapping[str, Tensor], path: Path) -> nn.Module:
    """ResNet-8 with Keras's tensors or its own, batch normalisation apart or merged.

    Raises:
        WeightsError: these are not its weights.
    """
    return _load(ResNet8, "MLPerf Tiny ResNet-8", state, path)


def mobilenet_from_state(state: Mapping[str, Tensor], path: Path) -> nn.Module:
    """MobileNetV1 with Keras's tensors or its own, batch normalisation apart or merged.

    Raises:
        WeightsError: these are not its weights.
    """
    return _load(MobileNetV1, "MLPerf Tiny MobileNetV1", state, path)


def build_resnet(classes: int = 10, channels: int = 3, width: int = 16) -> nn.Module:
    """A fresh ResNet-8."""
    return ResNet8(width, classes, channels).train()


def build_mobilenet(classes: int = 2, channels: int = 3, width: int = 8) -> nn.Module:
    """A fresh MobileNetV1 of alpha ``width`` / 32."""
    return MobileNetV1(width, classes, channels).train()


MODELS.add("mlperf-resnet8")(
    Distinct(
        title="ResNet-8 of MLPerf Tiny's image classification, CIFAR-10 (arXiv:2106.07597)",
        task=CLASSIFICATION,
        build=build_resnet,
        from_state=resnet_from_state,
        marks=(
            "conv2d/kernel|conv2d.conv.weight|conv2d.weight",
            "conv2d_8/kernel|conv2d_8.weight",
            "dense/kernel|dense.weight",
        ),
        absent=("conv2d_9/kernel", "conv2d_9.conv.weight", "conv2d_9.weight", "depthwise_conv2d/depthwise_kernel"),
        input_size=(32, 32),
        crop_share=1.0,
    )
)
MODELS.add("mlperf-mobilenet-v1")(
    Family(
        title="MobileNetV1-0.25 of MLPerf Tiny's visual wake words, 96x96 (arXiv:2106.07597, arXiv:1704.04861)",
        task=CLASSIFICATION,
        build=build_mobilenet,
        from_state=mobilenet_from_state,
        marks=(
            "conv2d_13/kernel|conv2d_13.conv.weight|conv2d_13.weight",
            "depthwise_conv2d_12/depthwise_kernel|depthwise_conv2d_12.conv.weight|depthwise_conv2d_12.weight",
            "dense/kernel|dense.weight",
        ),
        input_size=(96, 96),
        crop_share=1.0,
    )
)
