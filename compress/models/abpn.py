"""ABPN: Anchor-based Plain Net for Mobile Image Super-Resolution (Du et al., CVPRW 2021, arXiv:2105.09750).

The layers follow the official TensorFlow code (NJU-Jet/SR_Mobile_Quantization, base7); the tensors are named as in
Qualcomm's PyTorch port (aimet-model-zoo), whose checkpoints have one wider layer at the end and load as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn

from compress.errors import WeightsError
from compress.network import SUPER_RESOLUTION, Family
from compress.registry import MODELS
from compress.weights import load_into

__all__ = ["Abpn", "Anchor", "build", "from_state"]


class Anchor(nn.Module):
    """Every input channel scale² times over, in PixelShuffle's order: nearest enlargement before the shuffle.

    A 1x1 convolution with fixed zeros and ones rather than a repetition: it exports as one operator of any image size,
    and 1.0 is exact in 8 bits.  Its weight is not a parameter and not in the state dict.
    """

    weight: Tensor

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        weight = torch.eye(channels).repeat_interleave(scale**2, dim=0)
        self.register_buffer("weight", weight.view(-1, channels, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C * scale², H, W), or, of a single channel, to what broadcasts to that."""
        return F.conv2d(x, self.weight) if self.weight.shape[1] > 1 else x


class Abpn(nn.Module):
    """A plain stack of 3x3 convolutions that learns what nearest enlargement lacks, clipped to [0, 1].

    Args:
        widths: channels before, between and after the convolutions; first 3, last 3 * scale².
        scale: enlargement.
    """

    def __init__(self, widths: Sequence[int], scale: int) -> None:
        super().__init__()
        self.scale = scale
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
        self.cnn = nn.Sequential(*layers[:-1])
        self.anchor = Anchor(widths[0], scale)
        self.depth_to_space = nn.PixelShuffle(scale)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] to (N, 3, scale*H, scale*W) in [0, 1].

        The clip belongs to the network: where it was left out, the authors' int8 file was dequantized wrongly (README).
        """
        enlarged: Tensor = self.depth_to_space((self.cnn(x) + self.anchor(x)).clamp(0.0, 1.0))
        return enlarged


def from_state(state: Mapping[str, Tensor], path: Path) -> nn.Module:
    """The network whose widths are read off the convolutions ``cnn.0``, ``cnn.2`` and so on.

    Raises:
        WeightsError: these are not ABPN weights.
    """
    port = {k: v for k, v in state.items() if k.startswith("anchor.net.")}  # a fixed layer in the port, made here
    state = {k: v for k, v in state.items() if k not in port}
    kernels = [state.get(f"cnn.{k}.weight") for k in range(0, 2 * len(state), 2)]
    kernels = [k for k in kernels if k is not None and k.dim() == 4]
    widths = [3] + [k.shape[0] for k in kernels if k is not None]
    scale = round((widths[-1] / 3) ** 0.5)
    if len(widths) < 3 or widths[-1] != 3 * scale**2:
        found = ", ".join(list(state)[:6])
        raise WeightsError(
            f"weights {path} are not ABPN's: expected convolutions cnn.0, cnn.2, ... from 3 channels to "
            f"3 * scale * scale; found {found}; choose another --model"
        )
    module = Abpn(widths, scale)
    load_into(module, state, path)
    weight, bias = port.get("anchor.net.weight", module.anchor.weight), port.get("anchor.net.bias", torch.zeros(1))
    if not torch.equal(weight, module.anchor.weight) or bias.any():
        raise WeightsError(f"weights {path}: anchor.net is not nearest enlargement; only a fixed anchor can be loaded")
    return module.eval()


def build(scale: int = 4, width: int = 28, blocks: int = 4) -> nn.Module:
    """ABPN with Glorot-normal kernels and zero biases, as the official code starts; published at scale 3."""
    last = 3 * scale**2
    module = Abpn([3, *[width] * (blocks + 1), last, last], scale)
    for layer in module.cnn:
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    return module.train()


MODELS.add("abpn")(
    Family(
        title="ABPN, anchor-based plain net for int8 super-resolution on mobiles (CVPRW 2021, arXiv:2105.09750)",
        task=SUPER_RESOLUTION,
        build=build,
        from_state=from_state,
        marks=("cnn.0.weight", "cnn.2.weight", "cnn.4.weight"),
    )
)
