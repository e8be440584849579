"""ECBSR: edge-oriented convolution blocks for mobile super-resolution (Zhang et al., ACM MM 2021, no arXiv id).

The source is the official code (xindongzhang/ECBSR).  Checkpoints of the training form (ECBSR) and of the plain form
(its PlainSR) load.  The official networks see luma alone: ``colours=1``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn

from compress.errors import WeightsError
from compress.models.abpn import Anchor
from compress.models.luminance import bare, for_colours
from compress.network import SUPER_RESOLUTION, Family
from compress.registry import MODELS
from compress.weights import load_into

__all__ = ["Ecb", "Ecbsr", "build", "from_state"]

_MULTIPLIER = 2  # of the width between the 1x1 and the 3x3 (the paper's depth multiplier)
_SOBEL = ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0))
_LAPLACE = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))


def _parameters(layer: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Weight and bias."""
    if layer.bias is None:
        raise TypeError("ECBSR's convolutions have biases")
    return layer.weight, layer.bias


class _Expand(nn.Module):
    """The branch 1x1 to a wider space, then 3x3 (``conv1x1-conv3x3`` of the official ecb.py)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.k0, self.b0 = _parameters(nn.Conv2d(inputs, outputs * _MULTIPLIER, 1))
        self.k1, self.b1 = _parameters(nn.Conv2d(outputs * _MULTIPLIER, outputs, 3))

    def kernel(self) -> tuple[Tensor, Tensor]:
        """Weight (C_out, C_in, 3, 3) and bias (C_out,) of the equal convolution."""
        weight = torch.einsum("omhw,mi->oihw", self.k1, self.k0[:, :, 0, 0])
        return weight, self.k1.sum((2, 3)) @ self.b0 + self.b1


class _Edge(nn.Module):
    """The branch 1x1, then a fixed edge filter scaled per channel (Sobel in x, in y, Laplacian)."""

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, edge: Tensor) -> None:
        super().__init__()
        self.k0, self.b0 = _parameters(nn.Conv2d(inputs, outputs, 1))
        self.scale = nn.Parameter(torch.randn(outputs, 1, 1, 1) * 1e-3)
        self.bias = nn.Parameter(torch.randn(outputs) * 1e-3)
        self.register_buffer("mask", edge.expand(outputs, 1, 3, 3).clone())

    def kernel(self) -> tuple[Tensor, Tensor]:
        """Weight (C_out, C_in, 3, 3) and bias (C_out,) of the equal convolution."""
        edge = self.scale * self.mask  # (C_out, 1, 3, 3)
        return edge * self.k0, edge.sum((1, 2, 3)) * self.b0 + self.bias


class _Plain(nn.Module):
    """A 3x3 convolution and its activation; the deploy form of :class:`Ecb`."""

    def __init__(self, inputs: int, outputs: int, activation: str) -> None:
        super().__init__()
        self.conv3x3 = nn.Conv2d(inputs, outputs, 3, padding=1)
        kinds: dict[str, Callable[[], nn.Module]]
        kinds = {"prelu": lambda: nn.PReLU(outputs), "relu": nn.ReLU, "linear": nn.Identity}
        if activation not in kinds:
            raise ValueError(f"activation is {activation!r}, expected 'prelu' or 'relu'")
        self.act = kinds[activation]()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H, W)."""
        features: Tensor = self.act(self.conv3x3(x))
        return features


class Ecb(_Plain):
    """A 3x3 convolution trained as five parallel branches.

    In the official code each branch pads the output of its 1x1 with that 1x1's bias, which is what zero padding in
    front of it would give; so the branches sum to one zero-padded 3x3 convolution, exactly, at borders too.  The
    forward pass convolves once with that kernel: the same values and gradients for a fifth of the work.
    The optional identity branch, off in all official configurations, leaves no trace in a checkpoint and is left out.
    """

    def __init__(self, inputs: int, outputs: int, activation: str) -> None:
        super().__init__(inputs, outputs, activation)
        sobel = torch.tensor(_SOBEL)
        self.conv1x1_3x3 = _Expand(inputs, outputs)
        self.conv1x1_sbx = _Edge(inputs, outputs, sobel)
        self.conv1x1_sby = _Edge(inputs, outputs, sobel.T)
        self.conv1x1_lpl = _Edge(inputs, outputs, torch.tensor(_LAPLACE))

    def kernel(self) -> tuple[Tensor, Tensor]:
        """Weight (C_out, C_in, 3, 3) and bias (C_out,) of the equal plain convolution; differentiable."""
        branches = (self.conv1x1_3x3, self.conv1x1_sbx, self.conv1x1_sby, self.conv1x1_lpl)
        kernels = [_parameters(self.conv3x3), *(branch.kernel() for branch in branches)]
        return torch.stack([k for k, _ in kernels]).sum(0), torch.stack([b for _, b in kernels]).sum(0)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H, W)."""
        with torch.autocast(x.device.type, enabled=False):  # the merge is cheap: keep it in float32
            weight, bias = self.kernel()
        features: Tensor = self.act(F.conv2d(x, weight, bias, padding=1))
        return features

    def merge(self) -> _Plain:
        """The equal plain convolution with the same activation."""
        weight, bias = (t.detach() for t in self.kernel())
        plain = _Plain(weight.shape[1], weight.shape[0], "linear")
        plain.conv3x3.load_state_dict({"weight": weight, "bias": bias})
        plain.act = self.act
        return plain


class Ecbsr(nn.Module):
    """ECBSR, in the training form or plain.

    Args:
        blocks: hidden blocks between the first and the last (the M of M4C16).
        width: their channels (the C).
        scale: enlargement.
        colours: channels of input and output, 1 or 3.
        activation: "prelu", as published, or "relu".
        trainable: the form with branches.
    """

    def __init__(
        self, blocks: int, width: int, scale: int, colours: int = 3, activation: str = "prelu", trainable: bool = False
    ) -> None:
        super().__init__()
        self.scale = scale
        block = Ecb if trainable else _Plain
        widths = [colours, *[width] * (blocks + 1), colours * scale**2]
        kinds = [activation] * (blocks + 1) + ["linear"]
        self.backbone = nn.Sequential(
            *(block(a, b, kind) for (a, b), kind in zip(pairwise(widths), kinds, strict=True))
        )
        self.anchor = Anchor(colours, scale)
        self.upsampler = nn.PixelShuffle(scale)

    def forward(self, x: Tensor) -> Tensor:
        """(N, colours, H, W) in [0, 1] to (N, colours, scale*H, scale*W)."""
        enlarged: Tensor = self.upsampler(self.backbone(x) + self.anchor(x))
        return enlarged


def from_state(state: Mapping[str, Tensor], path: Path) -> nn.Module:
    """The network whose sizes are read off the tensors; training and plain form, luma and RGB.

    Raises:
        WeightsError: these are not ECBSR weights.
    """
    state, studio = bare(state)
    count = len({k.split(".")[1] for k in state if k.startswith("backbone.") and k.endswith(".conv3x3.weight")})
    first, last = (state.get(f"backbone.{k}.conv3x3.weight") for k in (0, count - 1))
    if count < 2 or first is None or last is None or not first.dim() == last.dim() == 4:
        found = ", ".join(list(state)[:6])
        raise WeightsError(
            f"weights {path} are not ECBSR's: expected backbone.0.conv3x3 and at least one more; found {found}; "
            "choose another --model"
        )
    colours = first.shape[1]
    scale = round((last.shape[0] / colours) ** 0.5)
    if colours not in (1, 3) or last.shape[0] != colours * scale**2:
        raise WeightsError(
            f"weights {path} go from {colours} channels to {last.shape[0]}, expected 1 or 3 to scale * scale times "
            "as many; choose another --model"
        )
    activation = "prelu" if "backbone.0.act.weight" in state else "relu"
    trainable = "backbone.0.conv1x1_3x3.k0" in state
    module = Ecbsr(count - 2, first.shape[0], scale, colours, activation, trainable)
    load_into(module, state, path)
    return for_colours(module, colours, scale, studio).eval()


def build(scale: int = 4, blocks: int = 4, width: int = 16, colours: int = 3, activation: str = "prelu") -> nn.Module:
    """ECBSR with its branches, M4C16 unless told otherwise; torch's own start, as in the official code."""
    module = Ecbsr(blocks, width, scale, colours, activation, trainable=True)
    return for_colours(module, colours, scale).train()


MODELS.add("ecbsr")(
    Family(
        title="ECBSR M4C16, edge-oriented convolution blocks, for mobiles (ACM MM 2021); colours=1: luma only",
        task=SUPER_RESOLUTION,
        build=build,
        from_state=from_state,
        marks=(
            "backbone.0.conv3x3.weight|inner.backbone.0.conv3x3.weight",
            "backbone.1.conv3x3.weight|inner.backbone.1.conv3x3.weight",
        ),
    )
)
