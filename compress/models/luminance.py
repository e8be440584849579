"""Networks that enlarge the luma alone, as RGB networks: BT.601 luma in, chroma bilinear (no paper of its own).

From SRCNN (Dong et al., ECCV 2014, arXiv:1501.00092) on, the literature trains many small networks on the Y of YCbCr
and enlarges Cb and Cr by plain interpolation, because the eye, and the benchmark, look at luma.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn

from compress.models.span import _bilinear as bilinear_kernel

__all__ = ["Bilinear", "YChannel", "bare", "for_colours"]

_INNER = "inner."
_MARK = "full_swing"
# ITU-R BT.601, studio swing, as `compress.evaluate.luma`, for values in [0, 1]: Y in [16/255, 235/255].
_STUDIO = (65.481 / 255.0, 128.553 / 255.0, 24.966 / 255.0)
_OFFSET = 16.0 / 255.0
# The luma of JPEG and OpenCV: nearly the same proportions over the full range [0, 1].
_FULL = (0.299, 0.587, 0.114)


class Bilinear(nn.Module):
    """Bilinear enlargement of RGB, then a linear map of its colours.

    The same values as ``F.interpolate(mode="bilinear", align_corners=False)``, at borders too, from a 3x3 convolution
    with fixed kernels over repeated edge pixels and a PixelShuffle: unlike a resize operator, whose output size is a
    constant in many formats, this exports for any size of image.  The colour map is a 1x1 convolution, there even
    where it changes nothing, because converters lose a shuffle that an addition follows.

    Args:
        scale: enlargement.
        colours: (3, 3), output colours by input colours; None: unchanged.
    """

    kernel: Tensor
    colours: Tensor

    def __init__(self, scale: int, colours: Tensor | None = None) -> None:
        super().__init__()
        colours = torch.eye(3) if colours is None else colours
        self.register_buffer("kernel", bilinear_kernel(scale), persistent=False)
        self.register_buffer("colours", colours.view(3, 3, 1, 1), persistent=False)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 3, scale*H, scale*W)."""
        padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
        return F.conv2d(self.shuffle(F.conv2d(padded, self.kernel)), self.colours)


class YChannel(nn.Module):
    """An RGB to RGB network around one that enlarges luma.

    Luma goes through the inner network; Cb and Cr are enlarged bilinearly.  Since a step of luma is the same step of
    R, G and B (the first column of BT.601's inverse matrix is ``gain`` = 255/219 throughout), an image is its luma
    image, grey, plus its chroma image, of no luma, and the latter is a linear map of the colours::

        out = bilinear(rgb - gain * (Y(rgb) - 16/255)) + gain * (inner(Y(rgb)) - 16/255)

    Args:
        inner: (N, 1, H, W) luma to (N, 1, scale*H, scale*W).
        scale: its enlargement.
        studio: luma in 16/255 to 235/255, as the literature trains (MATLAB's ``rgb2ycbcr``); otherwise luma in 0 to 1,
            as OpenCV's ``COLOR_BGR2YCrCb`` gives, which is then written into the state dict (``full_swing``).
    """

    to_luma: Tensor
    offset: Tensor
    to_grey: Tensor
    shift: Tensor

    def __init__(self, inner: nn.Module, scale: int, studio: bool = True) -> None:
        super().__init__()
        self.inner, self.scale = inner, scale
        weights = torch.tensor(_STUDIO if studio else _FULL)
        offset, gain = (_OFFSET, 255.0 / 219.0) if studio else (0.0, 1.0)
        self.chroma = Bilinear(scale, torch.eye(3) - gain * weights)
        self.register_buffer("to_luma", weights.view(1, 3, 1, 1), persistent=False)
        self.register_buffer("offset", torch.tensor([offset]), persistent=False)
        self.register_buffer("to_grey", torch.full((3, 1, 1, 1), gain), persistent=False)
        self.register_buffer("shift", torch.full((3,), -gain * offset), persistent=False)
        if not studio:
            self.register_buffer(_MARK, torch.tensor(1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) RGB in [0, 1] to (N, 3, scale*H, scale*W)."""
        luma = self.inner(F.conv2d(x, self.to_luma, self.offset))
        enlarged: Tensor = self.chroma(x) + F.conv2d(luma, self.to_grey, self.shift)
        return enlarged


def for_colours(inner: nn.Module, colours: int, scale: int, studio: bool = True) -> nn.Module:
    """An RGB network: the given one where it takes 3 channels, else inside :class:`YChannel`.

    Raises:
        ValueError: neither 1 nor 3 colours.
    """
    if colours not in (1, 3):
        raise ValueError(f"colours is {colours}, expected 3 (RGB) or 1 (luma)")
    return inner if colours == 3 else YChannel(inner, scale, studio)


def bare(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
    """The tensors of the network itself, also where they come from a :class:`YChannel`, and whether luma is studio."""
    inner = {name.removeprefix(_INNER): tensor for name, tensor in state.items() if name != _MARK}
    return inner, _MARK not in state
