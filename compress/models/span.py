"""SPAN: Swift Parameter-free Attention Network (Wan et al., CVPRW 2024, arXiv:2311.12770).

The forward pass follows the official code (hongyuanyu/SPAN), including two facts that the paper does not
show: the fourth tensor of the concatenation is the output of the first convolution of block 6 *after* SiLU,
and the mean that is subtracted from the input is never added back.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn

from compress.errors import WeightsError
from compress.network import SUPER_RESOLUTION, Family
from compress.registry import MODELS
from compress.weights import load_into

__all__ = ["Conv3XC", "Span", "build", "from_state"]

_BLOCKS = 6
_GAIN = 2
_MEAN = (0.4488, 0.4371, 0.4040)
_CARRIED = 16.0  # amplitude at which a fresh network carries the image, for inputs in [0, 1]
_BUILTIN = Path(__file__).parent / "weights" / "span_x4.safetensors"


class Conv3XC(nn.Module):
    """A 3x3 convolution trained as 1x1 - 3x3 - 1x1 plus a 1x1 skip (arXiv:2311.12770, section 3.3).

    The input is zero-padded *before* the first 1x1, so that its bias also reaches the padding ring; this
    is what makes the merged 3x3 exact at image borders.  The forward pass convolves once with the merged
    kernel, which gives the same values and the same gradients as the expanded path at a fifth of its cost.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.sk = nn.Conv2d(inputs, outputs, 1)
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, inputs * _GAIN, 1),
            nn.Conv2d(inputs * _GAIN, outputs * _GAIN, 3),
            nn.Conv2d(outputs * _GAIN, outputs, 1),
        )

    def kernel(self) -> tuple[Tensor, Tensor]:
        """Weight (C_out, C_in, 3, 3) and bias (C_out,) of the equal plain convolution; differentiable."""
        (w1, b1), (w2, b2), (w3, b3) = ((_plain(c).weight, _bias(c)) for c in self.conv)
        first = w1[:, :, 0, 0]  # (m, c)
        last = w3[:, :, 0, 0]  # (o, n)
        inner = torch.matmul(w2.permute(0, 2, 3, 1), first)  # (n, 3, 3, c)
        weight = torch.matmul(last, inner.flatten(1)).view(-1, *inner.shape[1:]).permute(0, 3, 1, 2)
        bias = last @ (w2.sum((2, 3)) @ b1 + b2) + b3
        weight = weight + F.pad(self.sk.weight, (1, 1, 1, 1))
        return weight, bias + _bias(self.sk)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H, W)."""
        with torch.autocast(x.device.type, enabled=False):  # the merge is cheap: keep it in float32
            weight, bias = self.kernel()
        return F.conv2d(x, weight, bias, padding=1)

    def merge(self) -> nn.Conv2d:
        """The equal plain 3x3 convolution."""
        weight, bias = (t.detach() for t in self.kernel())
        plain = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
        plain.weight.data.copy_(weight)
        _bias(plain).data.copy_(bias)
        return plain


def _plain(layer: nn.Module) -> nn.Conv2d:
    if not isinstance(layer, nn.Conv2d):
        raise TypeError(f"expected Conv2d, found {type(layer).__name__}")
    return layer


def _bias(layer: nn.Module) -> Tensor:
    bias = _plain(layer).bias
    if bias is None:
        raise TypeError("SPAN's convolutions have biases")
    return bias


def _conv(inputs: int, outputs: int, trainable: bool) -> nn.Module:
    return Conv3XC(inputs, outputs) if trainable else nn.Conv2d(inputs, outputs, 3, padding=1)


class _Block(nn.Module):
    """SPAB: three convolutions and the parameter-free attention (arXiv:2311.12770, eq. 3 to 6)."""

    def __init__(self, channels: int, trainable: bool) -> None:
        super().__init__()
        self.c1_r = _conv(channels, channels, trainable)
        self.c2_r = _conv(channels, channels, trainable)
        self.c3_r = _conv(channels, channels, trainable)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The block's output, and its first convolution after SiLU; both as (N, C, H, W)."""
        first = F.silu(self.c1_r(x))
        features = self.c3_r(F.silu(self.c2_r(first)))
        return (features + x) * (torch.sigmoid(features) - 0.5), first


class Span(nn.Module):
    """SPAN; ``trainable`` selects the Conv3XC form, otherwise every convolution is a plain 3x3.

    Args:
        channels: width C.
        scale: enlargement, 2 to 4.
        tail: width after the 1x1 fusion; C in the paper, 20 in the 28-channel NTIRE 2025 entry.
        trainable: the re-parameterised training form.
        shift: subtract the DIV2K mean and multiply by 255 first (the official checkpoints expect it).
    """

    mean: Tensor

    def __init__(
        self, channels: int, scale: int, tail: int | None = None, trainable: bool = False, shift: bool = True
    ) -> None:
        super().__init__()
        tail = tail or channels
        self.scale, self.shift = scale, shift
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.conv_1 = _conv(3, channels, trainable)
        for k in range(1, _BLOCKS + 1):
            self.add_module(f"block_{k}", _Block(channels, trainable))
        self.conv_2 = _conv(channels, channels, trainable)
        self.conv_cat = nn.Conv2d(4 * channels, tail, 1)
        self.upsampler = nn.Sequential(nn.Conv2d(tail, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] to (N, 3, scale*H, scale*W)."""
        if self.shift:
            x = (x - self.mean) * 255.0
        shallow = self.conv_1(x)
        deep, early = shallow, shallow
        for k in range(1, _BLOCKS + 1):
            deep, first = self._block(k)(deep)
            if k == 1:
                early = deep
        fused = self.conv_cat(torch.cat([shallow, self.conv_2(deep), early, first], 1))
        enlarged: Tensor = self.upsampler(fused)
        return enlarged

    def _block(self, k: int) -> _Block:
        block = self.get_submodule(f"block_{k}")
        if not isinstance(block, _Block):
            raise TypeError(f"block_{k} is a {type(block).__name__}")
        return block

    def start_from_interpolation(self) -> None:
        """Set the weights of a fresh network so that training starts well.

        The first output is (nearly) the bilinear enlargement: three channels carry the image through the
        fusion, and the last convolution interpolates them, so the residual is learned from the first step on.
        Every other convolution is scaled to unit output variance on smooth noise, in order of execution
        (Mishkin & Matas, arXiv:1511.06422, algorithm 1): the attention is quadratic near zero, and with
        default weights the deep blocks fade away and stay so.  The image is carried at a larger amplitude than
        the features, so that 8-bit activations keep it to one grey level.
        """
        with torch.no_grad():
            x = (_smooth_noise() - self.mean) * 255.0 if self.shift else _smooth_noise()
            _to_unit_variance(self.conv_1, x)
            self._carry_image()
            shallow = deep = early = self.conv_1(x)
            for k in range(1, _BLOCKS + 1):
                block = self._block(k)
                first = F.silu(_to_unit_variance(block.c1_r, deep))
                features = _to_unit_variance(block.c3_r, F.silu(_to_unit_variance(block.c2_r, first)))
                deep = (features + deep) * (torch.sigmoid(features) - 0.5)
                early = deep if k == 1 else early
            _to_unit_variance(self.conv_2, deep)
            _to_unit_variance(self.conv_cat, torch.cat([shallow, self.conv_2(deep), early, first], 1))
            self.conv_cat.weight[:3] = 0.0
            self.conv_cat.weight[range(3), range(3)] = 1.0
            _bias(self.conv_cat)[:3] = 0.0
            last = _plain(self.upsampler[0])
            last.weight.mul_(0.01)
            last.weight[:, :3] = _bilinear(self.scale) / _CARRIED
            _bias(last).copy_(torch.tensor(_MEAN).repeat_interleave(self.scale**2) * float(self.shift))

    def _carry_image(self) -> None:
        """Let the first three outputs of the first convolution be the image."""
        if isinstance(self.conv_1, Conv3XC):
            carrier = self.conv_1.sk.weight
            silent = [_bias(self.conv_1.sk), *self.conv_1.conv[2].parameters()]
        else:
            carrier = _plain(self.conv_1).weight
            silent = [_bias(self.conv_1)]
        for parameter in (carrier, *silent):
            parameter[:3] = 0.0
        centre = carrier.shape[2] // 2
        carrier[range(3), range(3), centre, centre] = _CARRIED / (255.0 if self.shift else 1.0)


def _smooth_noise() -> Tensor:
    """(4, 3, 48, 48) in [0, 1], with a spectrum that falls like a photograph's; the same each time."""
    random = torch.Generator().manual_seed(0)
    layers = [
        F.interpolate(torch.randn(4, 3, side, side, generator=random), 48, mode="bilinear")
        for side in (3, 6, 12, 24, 48)
    ]
    weighted = torch.stack([layer / (k + 1) for k, layer in enumerate(layers)]).sum(0)
    return (weighted * 0.15 + 0.45).clamp(0, 1)


def _to_unit_variance(layer: nn.Module, x: Tensor) -> Tensor:
    """Scale a convolution so that its output on ``x`` has variance 1; that output."""
    factor = 1.0 / layer(x).std().clamp(min=1e-6)
    ends = [layer.sk, layer.conv[2]] if isinstance(layer, Conv3XC) else [layer]
    for end in ends:
        for parameter in end.parameters():
            parameter.mul_(factor)
    scaled: Tensor = layer(x)
    return scaled


def _bilinear(scale: int) -> Tensor:
    """Sub-pixel kernels (3*scale², 3, 3, 3) that enlarge bilinearly, in PixelShuffle's channel order."""
    offset = (torch.arange(scale) + 0.5) / scale - 0.5
    taps = torch.stack([(-offset).clamp(min=0), 1 - offset.abs(), offset.clamp(min=0)], 1)  # (scale, 3)
    planes = torch.einsum("ih,jw->ijhw", taps, taps).reshape(scale**2, 3, 3)
    kernel = torch.zeros(3, scale**2, 3, 3, 3)
    for channel in range(3):
        kernel[channel, :, channel] = planes
    return kernel.reshape(3 * scale**2, 3, 3, 3)


def from_state(state: Mapping[str, Tensor], path: Path) -> Span:
    """The network whose sizes are read off the tensors; deploy and training checkpoints alike.

    Raises:
        WeightsError: these are not SPAN weights.
    """
    trained = "conv_1.sk.weight" in state
    shift = "no_norm" not in state  # spandrel's marker for community models without the mean shift
    if trained:  # the merged kernels in such a file are stale copies: they are made anew by `merge`
        state = {k: v for k, v in state.items() if ".eval_conv." not in k}
    state = {k.replace(".eval_conv.", "."): v for k, v in state.items() if k != "no_norm"}
    first, fusion, last = (
        state.get(k)
        for k in ("conv_1.sk.weight" if trained else "conv_1.weight", "conv_cat.weight", "upsampler.0.weight")
    )
    if first is None or fusion is None or last is None or not first.dim() == fusion.dim() == last.dim() == 4:
        found = ", ".join(sorted({k.split(".", 1)[0] for k in state})[:10])
        raise WeightsError(
            f"weights {path} are not SPAN's: expected conv_1, block_1 to block_6, conv_2, conv_cat, "
            f"upsampler.0; found {found}; choose another --model"
        )
    channels = first.shape[1]
    scale = round((last.shape[0] / channels) ** 0.5)
    if channels != 3:
        raise WeightsError(
            f"weights {path} take {channels} channels, expected 3 (RGB); use a checkpoint of the RGB network"
        )
    if channels * scale**2 != last.shape[0]:
        raise WeightsError(
            f"weights {path} give {last.shape[0]} sub-pixels, expected 3 * scale * scale; "
            "use a checkpoint of the RGB network"
        )
    module = Span(first.shape[0], scale, fusion.shape[0], trainable=trained, shift=shift)
    load_into(module, state, path)
    return module.eval()


def build(scale: int = 4, channels: int = 48) -> nn.Module:
    """SPAN with Conv3XC, starting from bilinear interpolation."""
    module = Span(channels, scale, trainable=True)
    module.start_from_interpolation()
    return module.train()


MODELS.add("span")(
    Family(
        title="SPAN, x2 to x4 super-resolution (CVPRW 2024, arXiv:2311.12770); built-in weights: x4, 32 channels",
        task=SUPER_RESOLUTION,
        build=build,
        from_state=from_state,
        marks=(
            "conv_1.sk.weight|conv_1.eval_conv.weight|conv_1.weight",
            "block_6.c1_r.sk.weight|block_6.c1_r.eval_conv.weight|block_6.c1_r.weight",
            "conv_cat.weight",
            "upsampler.0.weight",
        ),
        builtin=_BUILTIN,
    )
)
