"""FSRCNN: accelerating the super-resolution CNN (Dong, Loy, Tang, ECCV 2016, arXiv:1608.00367).

FSRCNN(d, s, m): a 5x5 to d features, 1x1 down to s, m times 3x3, 1x1 back to d, and a 9x9 transposed convolution of
stride ``scale``; PReLU after all but the last (section 3.2).  Tensors are named as in the common PyTorch code
(yjn870/FSRCNN-pytorch); those of frozen TensorFlow graphs of Saafke/FSRCNN_Tensorflow load as well.  The paper's
networks see luma alone: ``colours=1``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn

from compress.errors import WeightsError
from compress.models.luminance import bare, for_colours
from compress.network import SUPER_RESOLUTION, Family
from compress.registry import MODELS
from compress.weights import load_into

__all__ = ["Deconvolution", "Fsrcnn", "build", "from_state"]

_KERNEL = 9
_MARK = "last_part.enlargement"


class Deconvolution(nn.ConvTranspose2d):
    """The 9x9 transposed convolution of stride ``scale``, centred on pixel 0 of each scale x scale patch.

    Its kernel is 9x9 at every scale, so the state dict holds the scale as well (``enlargement``).
    """

    enlargement: Tensor

    def __init__(self, inputs: int, outputs: int, scale: int) -> None:
        super().__init__(inputs, outputs, _KERNEL, scale, padding=_KERNEL // 2, output_padding=scale - 1)
        self.register_buffer("enlargement", torch.tensor(scale))

    def merge(self) -> nn.Sequential:
        """The equal plain convolution and PixelShuffle, which integer hardware has and transposed ones are slow on.

        Output pixel scale*q + r sums kernel tap t times input pixel q + p over all t = r + 4 - scale*p; so tap t of
        the transposed kernel becomes tap p of sub-pixel r.  Taps that no t reaches are zero.
        """
        scale, centre = self.stride[0], _KERNEL // 2
        reach = (centre + scale - 1) // scale
        taps = torch.arange(scale)[:, None] + centre - scale * torch.arange(-reach, reach + 1)  # (r, p)
        taps = torch.where((taps >= 0) & (taps < _KERNEL), taps, _KERNEL)  # beyond: the padded zero
        kernel = F.pad(self.weight.detach(), (0, 1, 0, 1))[:, :, taps][..., taps]  # (in, out, r, p, r', p')
        kernel = kernel.permute(1, 2, 4, 0, 3, 5).reshape(-1, self.in_channels, 2 * reach + 1, 2 * reach + 1)
        plain = nn.Conv2d(self.in_channels, kernel.shape[0], 2 * reach + 1, padding=reach)
        bias = torch.zeros(self.out_channels) if self.bias is None else self.bias.detach()
        plain.load_state_dict({"weight": kernel, "bias": bias.repeat_interleave(scale**2)})
        return nn.Sequential(plain, nn.PixelShuffle(scale))


class Fsrcnn(nn.Module):
    """FSRCNN(features, shrink, depth).

    Args:
        features: d, the channels of the first and the last layer.
        shrink: s, the channels between.
        depth: m, the number of 3x3 layers.
        scale: enlargement.
        colours: channels of input and output, 1 or 3.
        kernel: side of a last plain convolution in front of a PixelShuffle; None: the paper's transposed convolution.
    """

    def __init__(
        self, features: int, shrink: int, depth: int, scale: int, colours: int = 3, kernel: int | None = None
    ) -> None:
        super().__init__()
        self.scale = scale
        self.first_part = nn.Sequential(nn.Conv2d(colours, features, 5, padding=2), nn.PReLU(features))
        middle: list[nn.Module] = [nn.Conv2d(features, shrink, 1), nn.PReLU(shrink)]
        for _ in range(depth):
            middle += [nn.Conv2d(shrink, shrink, 3, padding=1), nn.PReLU(shrink)]
        self.mid_part = nn.Sequential(*middle, nn.Conv2d(shrink, features, 1), nn.PReLU(features))
        if kernel is None:
            self.last_part: nn.Module = Deconvolution(features, colours, scale)
        else:
            plain = nn.Conv2d(features, colours * scale**2, kernel, padding=kernel // 2)
            self.last_part = nn.Sequential(plain, nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        """(N, colours, H, W) in [0, 1] to (N, colours, scale*H, scale*W)."""
        enlarged: Tensor = self.last_part(self.mid_part(self.first_part(x)))
        return enlarged

    def start_as_published(self) -> None:
        """He's normal kernels (over the fan out), zero biases, a last layer near zero, as the paper."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and layer.bias is not None:
                fan_out = layer.out_channels * layer.kernel_size[0] ** 2
                last = isinstance(layer, nn.ConvTranspose2d)
                nn.init.normal_(layer.weight, std=0.001 if last else (2.0 / fan_out) ** 0.5)
                nn.init.zeros_(layer.bias)


def _from_tensorflow(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors f1.. (h, w, in, out), b1.. and alpha1.. under our names.

    In these graphs a 1x1 convolution and a shuffle take the place of the transposed convolution, and one bias serves
    all sub-pixels.
    """
    count = sum(k.startswith("f") for k in state)
    layers = ["first_part.0", *(f"mid_part.{2 * k}" for k in range(count - 2)), "last_part.0"]
    ours = {}
    for number, layer in enumerate(layers, 1):
        head, _, index = layer.rpartition(".")
        kernel = state[f"f{number}"].permute(3, 2, 0, 1)
        ours[f"{layer}.weight"] = kernel
        ours[f"{layer}.bias"] = state[f"b{number}"].expand(kernel.shape[0]).clone()
        if number < count:
            ours[f"{head}.{int(index) + 1}.weight"] = state[f"alpha{number}"]
    return ours


def _scale(state: Mapping[str, Tensor], path: Path) -> int:
    """The scale that the state dict or, for files of other code, the file's name tells.

    Raises:
        WeightsError: neither does.
    """
    if _MARK in state:
        return int(state[_MARK])
    told = re.search(r"x([2-4])(?!\d)", path.stem)
    if told is None:
        raise WeightsError(
            f"weights {path}: the 9x9 kernel of FSRCNN fits every scale, and the file does not tell its own; "
            "expected x2, x3 or x4 in its name; rename it"
        )
    return int(told[1])


def _refusal(state: Mapping[str, Tensor], path: Path) -> WeightsError:
    found = ", ".join(list(state)[:6])
    return WeightsError(
        f"weights {path} are not FSRCNN's: expected first_part.0, mid_part.0 and so on, last_part; "
        f"found {found}; choose another --model"
    )


def from_state(state: Mapping[str, Tensor], path: Path) -> nn.Module:
    """The network whose sizes are read off the tensors; transposed or plain last layer, luma or RGB.

    Raises:
        WeightsError: these are not FSRCNN weights, or nothing tells their scale.
    """
    state, studio = bare(state)
    if {"f1", "b1", "alpha1", "f3"} <= state.keys():
        state, studio = _from_tensorflow(state), False  # OpenCV's luma
    first, down = state.get("first_part.0.weight"), state.get("mid_part.0.weight")
    last = state.get("last_part.weight", state.get("last_part.0.weight"))
    if first is None or down is None or last is None or not first.dim() == down.dim() == last.dim() == 4:
        raise _refusal(state, path)
    colours, features = first.shape[1], first.shape[0]
    depth = sum(k.startswith("mid_part.") and v.dim() == 4 for k, v in state.items()) - 2
    if "last_part.weight" in state:
        scale, kernel = _scale(state, path), None
        state = {_MARK: torch.tensor(scale), **state}
    else:
        scale, kernel = round((last.shape[0] / colours) ** 0.5), last.shape[2]
    if colours not in (1, 3) or depth < 0 or (kernel is not None and last.shape[0] != colours * scale**2):
        raise _refusal(state, path)
    module = Fsrcnn(features, down.shape[0], depth, scale, colours, kernel)
    load_into(module, state, path)
    return for_colours(module, colours, scale, studio).eval()


def build(scale: int = 4, features: int = 56, shrink: int = 12, depth: int = 4, colours: int = 3) -> nn.Module:
    """FSRCNN(56, 12, 4) unless told otherwise, started as in the paper."""
    module = Fsrcnn(features, shrink, depth, scale, colours)
    module.start_as_published()
    return for_colours(module, colours, scale).train()


_MARKS = (
    "first_part.0.weight|inner.first_part.0.weight|f1",
    "mid_part.0.weight|inner.mid_part.0.weight|alpha1",
    "mid_part.1.weight|inner.mid_part.1.weight|alpha2",
)
MODELS.add("fsrcnn")(
    Family(
        title="FSRCNN(56, 12, 4), features at low resolution (ECCV 2016, arXiv:1608.00367); colours=1: luma only",
        task=SUPER_RESOLUTION,
        build=build,
        from_state=from_state,
        marks=_MARKS,
    )
)
MODELS.add("fsrcnn-s")(
    Family(
        title="FSRCNN-s(32, 5, 1), the small real-time one (ECCV 2016, arXiv:1608.00367); colours=1: luma only",
        task=SUPER_RESOLUTION,
        build=partial(build, features=32, shrink=5, depth=1),
        from_state=from_state,
        marks=_MARKS,
    )
)
