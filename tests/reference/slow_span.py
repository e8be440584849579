"""SPAN written out from its description (arXiv:2311.12770; hongyuanyu/SPAN), on a plain dict of tensors."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor


def conv3xc(state: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    """The expanded path: pad with zeros, 1x1, valid 3x3, 1x1; beside it the 1x1 skip.  A merged layer as it is."""
    if f"{name}.sk.weight" not in state:
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)
    padded = F.pad(x, (1, 1, 1, 1))
    first = F.conv2d(padded, state[f"{name}.conv.0.weight"], state[f"{name}.conv.0.bias"])
    second = F.conv2d(first, state[f"{name}.conv.1.weight"], state[f"{name}.conv.1.bias"])
    third = F.conv2d(second, state[f"{name}.conv.2.weight"], state[f"{name}.conv.2.bias"])
    return third + F.conv2d(x, state[f"{name}.sk.weight"], state[f"{name}.sk.bias"])


def block(state: Mapping[str, Tensor], name: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """SPAB: out = (H + x) (sigmoid(H) - 1/2), and the first convolution after its (in-place) SiLU."""
    first = conv3xc(state, f"{name}.c1_r", x)
    first = first * torch.sigmoid(first)
    second = conv3xc(state, f"{name}.c2_r", first)
    second = second * torch.sigmoid(second)
    h = conv3xc(state, f"{name}.c3_r", second)
    return (h + x) * (torch.sigmoid(h) - 0.5), first


def shuffle(x: Tensor, scale: int) -> Tensor:
    """PixelShuffle: channel c*r*r + i*r + j of a pixel goes to row i, column j of its r x r square."""
    n, channels, height, width = x.shape
    out = torch.zeros(n, channels // scale**2, height * scale, width * scale, dtype=x.dtype)
    for c in range(channels // scale**2):
        for i in range(scale):
            for j in range(scale):
                out[:, c, i::scale, j::scale] = x[:, c * scale**2 + i * scale + j]
    return out


def span(state: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """(N, 3, H, W) in [0, 1] to (N, 3, r*H, r*W)."""
    scale = round((state["upsampler.0.bias"].numel() / 3) ** 0.5)
    x = (x - torch.tensor([0.4488, 0.4371, 0.4040], dtype=x.dtype).view(1, 3, 1, 1)) * 255
    f0 = conv3xc(state, "conv_1", x)
    b1, _ = block(state, "block_1", f0)
    b2, _ = block(state, "block_2", b1)
    b3, _ = block(state, "block_3", b2)
    b4, _ = block(state, "block_4", b3)
    b5, _ = block(state, "block_5", b4)
    b6, o = block(state, "block_6", b5)
    t = conv3xc(state, "conv_2", b6)
    y = F.conv2d(torch.cat([f0, t, b1, o], 1), state["conv_cat.weight"], state["conv_cat.bias"])
    return shuffle(F.conv2d(y, state["upsampler.0.weight"], state["upsampler.0.bias"], padding=1), scale)
