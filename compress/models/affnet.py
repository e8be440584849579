"""AFFNet: adaptive frequency filters as efficient global token mixers (Huang et al., ICCV 2023, arXiv:2307.14008).

A token mixer multiplies the Fourier transform of its input with a mask that two group-linear layers make from that
same transform (section 3.2, equation 4).  Runtimes for phones have no Fourier transform, so it is written as
products with constant matrices, for one size of input.  Names of tensors are those of the authors' code
(microsoft/TokenMixers), whose structure and settings this follows; there, images are not normalised.
"""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn

from compress.models._classifier import keep_side, side_in
from compress.models.deit import count, load
from compress.models.inception_next import fold, merge_all
from compress.models.lsnet import GroupNorm
from compress.network import CLASSIFICATION, Family
from compress.registry import MODELS

__all__ = ["AffNet", "Fourier", "build", "from_state"]

_SIDE = 256
_SMALL = 64  # images up to this side pass the first convolution without being halved
_STEM = 16
_GROUPS = 8  # of the linear layers on the spectrum
_THRESHOLD = 0.01  # of the shrinkage of the mask
_LAST = 960  # the most channels before the classifier


class Fourier(nn.Module):
    """The two-dimensional real Fourier transform and its inverse, as matrix products; orthonormal.

    A real image of H x W has a spectrum of H x (W // 2 + 1), the rest being conjugate.  Spectra are held with the
    frequencies along W first: (..., W // 2 + 1, 2 * H), real parts in the first H columns, imaginary in the rest.

    Args:
        height: H.
        width: W.
    """

    across: Tensor
    down: Tensor
    across_back: Tensor
    down_back: Tensor

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.bins = width // 2 + 1
        cosine, sine = _waves(width, self.bins)
        twice = torch.ones(self.bins, 1, dtype=torch.double) * 2  # the conjugate half of the spectrum
        twice[0] = 1
        if width % 2 == 0:
            twice[-1] = 1
        matrices = {
            "across": torch.cat([cosine, -sine], 1).t(),
            "across_back": torch.cat([twice * cosine.t(), -twice * sine.t()]).t(),
        }
        cosine, sine = _waves(height, height)
        forward = torch.cat([torch.cat([cosine, -sine], 1), torch.cat([sine, cosine], 1)])
        matrices |= {"down": forward.t(), "down_back": forward}
        for name, matrix in matrices.items():
            self.register_buffer(name, matrix.float().contiguous(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the spectrum (N * C, W // 2 + 1, 2 * H)."""
        n, channels, height, width = x.shape
        rows = F.linear(x.reshape(n * channels, height, width), self.across)
        return F.linear(_turned(rows, height, self.bins), self.down)

    def back(self, spectrum: Tensor) -> Tensor:
        """The spectrum (N * C, W // 2 + 1, 2 * H) to (N * C, H, W)."""
        rows = F.linear(spectrum, self.down_back)
        return F.linear(_turned(rows, self.bins, spectrum.shape[2] // 2), self.across_back)


def _waves(length: int, bins: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines (length, bins) of the orthonormal discrete Fourier transform."""
    turns = torch.outer(torch.arange(length), torch.arange(bins)) % length
    angle = turns.double() * (2 * math.pi / length)
    return angle.cos() / math.sqrt(length), angle.sin() / math.sqrt(length)


def _turned(x: Tensor, rows: int, columns: int) -> Tensor:
    """(N, rows, 2 * columns), real and imaginary, to (N, columns, 2 * rows)."""
    return x.reshape(-1, rows, 2, columns).permute(0, 3, 2, 1).reshape(-1, columns, 2 * rows)


class _Filter(nn.Module):
    """Adaptive frequency filter (equation 4): the input, plus itself filtered by a mask made from its spectrum.

    The two group-linear layers on complex numbers become grouped convolutions of their real and imaginary parts.

    Args:
        width: C, a multiple of 8.
        side: of the map.
    """

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        if width % _GROUPS:
            raise ValueError(f"width {width}: expected a multiple of {_GROUPS}")
        self.fourier = Fourier(side, side)

    def _mask(self, z: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        n, channels, height, _ = x.shape
        spectrum = self.fourier(x)
        # real and imaginary parts of each group of channels side by side, one place of the spectrum after another
        each = channels // _GROUPS
        grouped = (n, _GROUPS, each, height * self.fourier.bins)
        real, imaginary = (t.reshape(grouped) for t in (spectrum[:, :, :height], spectrum[:, :, height:]))
        z = torch.cat([real, imaginary], 2).reshape(n, 2 * channels, self.fourier.bins, height)
        z = self._mask(z)
        z = F.relu(z - _THRESHOLD) - F.relu(-z - _THRESHOLD)  # softshrink
        z = z.reshape(n, _GROUPS, 2 * each, -1)
        keep, turn = z[:, :, :each], z[:, :, each:]
        product = [keep * real - turn * imaginary, keep * imaginary + turn * real]
        filtered = torch.cat([t.reshape(n * channels, self.fourier.bins, height) for t in product], 2)
        return x + self.fourier.back(filtered).reshape(x.shape)


class _PlainFilter(_Filter):
    """With plain grouped convolutions: the merged form."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__(width, side)
        self.first = nn.Conv2d(2 * width, 2 * width, 1, groups=_GROUPS)
        self.second = nn.Conv2d(2 * width, 2 * width, 1, groups=_GROUPS)

    def _mask(self, z: Tensor) -> Tensor:
        mask: Tensor = self.second(F.silu(self.first(z)))
        return mask


class _ComplexFilter(_Filter):
    """With complex matrices (2, groups, inputs, outputs), real and imaginary, and offsets (2, groups, outputs)."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__(width, side)
        self.sizes = (width, side)
        each = width // _GROUPS
        self.w1 = nn.Parameter(0.02 * torch.randn(2, _GROUPS, each, each))
        self.b1 = nn.Parameter(0.02 * torch.randn(2, _GROUPS, each))
        self.w2 = nn.Parameter(0.02 * torch.randn(2, _GROUPS, each, each))
        self.b2 = nn.Parameter(0.02 * torch.randn(2, _GROUPS, each))

    def _mask(self, z: Tensor) -> Tensor:
        z = F.silu(F.conv2d(z, _complex(self.w1), _paired(self.b1), groups=_GROUPS))
        return F.conv2d(z, _complex(self.w2), _paired(self.b2), groups=_GROUPS)

    def merge(self) -> _PlainFilter:
        """The equal filter with plain grouped convolutions."""
        plain = _PlainFilter(*self.sizes)
        plain.fourier = copy.deepcopy(self.fourier)
        for layer, weight, bias in ((plain.first, self.w1, self.b1), (plain.second, self.w2, self.b2)):
            layer.weight = nn.Parameter(_complex(weight).detach())
            layer.bias = nn.Parameter(_paired(bias).detach())
        return plain


def _complex(weight: Tensor) -> Tensor:
    """Complex matrices (2, groups, inputs, outputs) as a real convolution (groups * 2 * outputs, 2 * inputs, 1, 1)."""
    real, imaginary = weight.transpose(2, 3)
    rows = torch.cat([torch.cat([real, -imaginary], 2), torch.cat([imaginary, real], 2)], 1)
    return rows.flatten(0, 1)[:, :, None, None]


def _paired(bias: Tensor) -> Tensor:
    """(2, groups, outputs) in the order of that convolution's outputs."""
    return bias.transpose(0, 1).flatten()


class _Layer(nn.Module):
    """Layers in a row, under the name that the authors give it."""

    def __init__(self, block: nn.Sequential) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', ceil(H / stride), ceil(W / stride))."""
        y: Tensor = self.block(x)
        return y


class _ConvLayer(_Layer):
    """Convolution, batch normalisation and, where ``active``, SiLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, active: bool = True
    ) -> None:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out")
        super().__init__(nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(outputs))))
        if active:
            self.block.act = nn.SiLU()

    def merge(self) -> _Layer:
        """The equal layer without normalisation."""
        conv, norm, *act = copy.deepcopy(self.block)
        if not isinstance(conv, nn.Conv2d):
            raise TypeError(f"expected Conv2d, found {type(conv).__name__}")
        plain = nn.Sequential(OrderedDict(conv=fold(conv, norm)))
        if act:
            plain.act = act[0]
        return _Layer(plain)


class _InvertedResidual(nn.Module):
    """MobileNetV2's block (arXiv:1801.04381, section 3.3)."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = max(8, int(inputs * expansion + 4) // 8 * 8)
        self.block = nn.Sequential()
        self.block.exp_1x1 = _ConvLayer(inputs, inner)
        self.block.conv_3x3 = _ConvLayer(inner, inner, 3, stride, inner)
        self.block.red_1x1 = _ConvLayer(inner, outputs, active=False)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', ceil(H / stride), ceil(W / stride))."""
        y: Tensor = self.block(x)
        return x + y if self.residual else y


class _Mixing(nn.Module):
    """An inverted residual and a frequency filter, each normalised first; around both, the identity (figure 2)."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.norm1 = GroupNorm(1, width)
        self.filter = _ComplexFilter(width, side)
        self.norm2 = GroupNorm(1, width)
        self.mlp = _InvertedResidual(width, width, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        y: Tensor = x + self.filter(self.norm2(self.mlp(self.norm1(x))))
        return y


class _AffBlock(nn.Module):
    """Token mixers, a 1x1 convolution, and another one that fuses what comes out with what went in."""

    def __init__(self, width: int, side: int, depth: int) -> None:
        super().__init__()
        self.global_rep = nn.Sequential(*(_Mixing(width, side) for _ in range(depth)), GroupNorm(1, width))
        self.conv_proj = _ConvLayer(width, width, active=False)
        self.fusion = _ConvLayer(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        y: Tensor = self.fusion(torch.cat([x, self.conv_proj(self.global_rep(x))], 1))
        return y


class AffNet(nn.Module):
    """AFFNet.

    Args:
        classes: length of the logits.
        channels: of the input.
        side: of the input; up to 64, the first convolution does not halve it.
        widths: channels of the five stages; the last three multiples of 8.
        depths: inverted residuals of the first two stages, token mixers of the last three.
        expansion: of the inverted residuals outside the token mixers.
    """

    def __init__(
        self, classes: int, channels: int, side: int, widths: Sequence[int], depths: Sequence[int], expansion: int
    ) -> None:
        super().__init__()
        self.classes, self.channels, self.input_size = classes, channels, (side, side)
        keep_side(self, side, _SIDE)
        stride = 1 if side <= _SMALL else 2
        self.conv_1 = _ConvLayer(channels, _STEM, 3, stride)
        side = -(-side // stride)
        before = _STEM
        for k, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            side = -(-side // 2) if k else side
            layers: list[nn.Module] = [_InvertedResidual(before, width, 2 if k else 1, expansion)]
            if k < 2:
                layers += [_InvertedResidual(width, width, 1, expansion) for _ in range(depth - 1)]
            else:
                layers.append(_AffBlock(width, side, depth))
            self.add_module(f"layer_{k + 1}", nn.Sequential(*layers))
            before = width
        last = min(4 * before, _LAST)
        self.conv_1x1_exp = _ConvLayer(before, last)
        self.classifier = nn.Sequential()
        self.classifier.fc = nn.Linear(last, classes)
        nn.init.trunc_normal_(self.classifier.fc.weight, std=0.02)
        nn.init.zeros_(self.classifier.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, side, side) in [0, 1] to logits (N, classes)."""
        x = self.conv_1(x)
        for k in range(1, 6):
            x = self.get_submodule(f"layer_{k}")(x)
        logits: Tensor = self.classifier(self.conv_1x1_exp(x).mean((2, 3)))
        return logits


def _sized_after(state: Mapping[str, Tensor]) -> AffNet:
    ends = [f"layer_{k}.0.block.red_1x1.block.conv.weight" for k in range(1, 6)]
    widths = [state[name].shape[0] for name in ends]
    depths = [count(state, f"layer_{k}.") for k in (1, 2)]
    depths += [count(state, f"layer_{k}.1.global_rep.") - 1 for k in (3, 4, 5)]
    channels, expansion = state["conv_1.block.conv.weight"].shape[1], state[ends[0]].shape[1] // _STEM
    side = side_in(state, _SIDE)
    module = AffNet(state["classifier.fc.weight"].shape[0], channels, side, widths, depths, expansion)
    return module if "conv_1.block.norm.weight" in state else merge_all(module)


def from_state(state: Mapping[str, Tensor], path: Path) -> AffNet:
    """The network whose sizes are read off the tensors; as trained and merged alike.

    Raises:
        WeightsError: these are not AFFNet's weights.
    """
    expected = "conv_1, layer_1 to layer_5 with global_rep and filter, conv_1x1_exp, classifier.fc"
    return load(_sized_after, state, path, ("AFFNet", expected))


def build(
    classes: int = 10,
    channels: int = 3,
    input_size: int = _SIDE,
    widths: Sequence[int] = (32, 48, 64, 104, 144),
    depths: Sequence[int] = (1, 3, 2, 4, 3),
    expansion: int = 2,
) -> nn.Module:
    """AFFNet-ET of table 1; ``input_size=32`` for small images."""
    return AffNet(classes, channels, input_size, widths, depths, expansion).train()


MODELS.add("affnet")(
    Family(
        title="AFFNet-ET, frequency-filter token mixer for classification (ICCV 2023, arXiv:2307.14008)",
        task=CLASSIFICATION,
        build=build,
        from_state=from_state,
        marks=(
            "conv_1.block.conv.weight",
            "layer_3.1.global_rep.0.filter.w1|layer_3.1.global_rep.0.filter.first.weight",
            "layer_5.1.fusion.block.conv.weight",
            "classifier.fc.weight",
        ),
        input_size=(_SIDE, _SIDE),
        crop_share=0.889,
    )
)
