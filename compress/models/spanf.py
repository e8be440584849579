"""SPANF and SPANV2: NTIRE efficient super-resolution (CVPRW 2025, arXiv:2504.10686, and 2026, arXiv:2604.03198).

Xiaomi's heirs of SPAN.  Both drop the mean shift and let a grouped 3x3 convolution, started as nearest enlargement,
carry the image past the blocks.  SPANF is team 24 of Amazingren/NTIRE2025_ESR; SPANV2 is team 22, the fastest, of
Amazingren/NTIRE2026_ESR: ReLU, attention from a 1x1 convolution, a depthwise and a pointwise convolution at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn

from compress.errors import WeightsError
from compress.models.span import _bilinear, _conv, _smooth_noise, _to_unit_variance
from compress.network import SUPER_RESOLUTION, Family
from compress.registry import MODELS
from compress.weights import load_into

__all__ = ["Spanf", "Spanv2", "build", "build_v2", "from_state", "from_state_v2"]

_BLOCKS = 5


class _Block(nn.Module):
    """SPAB (arXiv:2311.12770, eq. 3 to 6); the first, which changes the width, has no attention."""

    def __init__(self, inputs: int, outputs: int, trainable: bool) -> None:
        super().__init__()
        self.attends = inputs == outputs
        self.c1_r = _conv(inputs, outputs, trainable)
        self.c2_r = _conv(outputs, outputs, trainable)
        self.c3_r = _conv(outputs, outputs, trainable)

    def attend(self, x: Tensor, features: Tensor) -> Tensor:
        """The parameter-free attention; two (N, C, H, W) to one."""
        return (features + x) * (torch.sigmoid(features) - 0.5) if self.attends else features

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H, W)."""
        return self.attend(x, self.c3_r(F.silu(self.c2_r(F.silu(self.c1_r(x))))))

    def start(self, x: Tensor) -> Tensor:
        """Scale each convolution to unit output variance on ``x`` (SPAN does the same); the output."""
        features = x
        for layer in (self.c1_r, self.c2_r):
            features = F.silu(_to_unit_variance(layer, features))
        return self.attend(x, _to_unit_variance(self.c3_r, features))


class _ReluBlock(nn.Module):
    """SPANV2's block: ReLU, no biases, and a 1x1 convolution that computes the attention map."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.attends = inputs == outputs
        for name, wide in (("c1", inputs), ("c2", outputs), ("c3", outputs)):
            # one level deeper than needed, as the checkpoints have it
            self.add_module(name, nn.ModuleDict({"conv": nn.Conv2d(wide, outputs, 3, padding=1, bias=False)}))
        if self.attends:
            self.guidance_map_conv = nn.Conv2d(outputs, outputs, 1)

    def convolution(self, k: int) -> nn.Module:
        """The k-th of the three, from 1."""
        return self.get_submodule(f"c{k}.conv")

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H, W)."""
        features = F.relu(self.convolution(2)(F.relu(self.convolution(1)(x))))
        features = self.convolution(3)(features)
        if not self.attends:
            return F.relu(features)
        attended: Tensor = (x + features) * self.guidance_map_conv(features)
        return attended

    def start(self, x: Tensor) -> Tensor:
        """Scale each convolution to unit output variance on ``x``; the output."""
        features = x
        for k in (1, 2):
            features = F.relu(_to_unit_variance(self.convolution(k), features))
        features = _to_unit_variance(self.convolution(3), features)
        if not self.attends:
            return F.relu(features)
        return (x + features) * _to_unit_variance(self.guidance_map_conv, features)


def _near(scale: int) -> nn.Conv2d:
    """The convolution that carries the image, as nearest enlargement in front of a PixelShuffle."""
    near = nn.Conv2d(3, 3 * scale**2, 3, padding=1, groups=3, bias=False)
    nn.init.zeros_(near.weight)
    near.weight.data[:, :, 1, 1] = 1.0
    return near


class Spanf(nn.Module):
    """SPANF; ``trainable`` selects the Conv3XC form, otherwise every convolution is a plain 3x3.

    Args:
        channels: width.
        scale: enlargement.
        trainable: the re-parameterised training form.
    """

    def __init__(self, channels: int, scale: int, trainable: bool = False) -> None:
        super().__init__()
        self.scale = scale
        self.conv_near = _near(scale)
        for k in range(1, _BLOCKS + 1):
            self.add_module(f"block_{k}", _Block(3 if k == 1 else channels, channels, trainable))
        self.conv_cat = nn.Conv2d(3 * scale**2 + 2 * channels, channels, 1)
        self.conv_2 = _conv(channels, 3 * scale**2, trainable)
        self.depth_to_space = nn.PixelShuffle(scale)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] to (N, 3, scale*H, scale*W)."""
        first, *others = self._blocks()
        deep = early = first(x)
        for block in others:
            deep = block(deep)
        fused = self.conv_cat(torch.cat([self.conv_near(x), deep, early], 1))
        enlarged: Tensor = self.depth_to_space(self.conv_2(fused))
        return enlarged

    def _blocks(self) -> list[_Block]:
        return [block for block in self.children() if isinstance(block, _Block)]

    def start_from_nearest(self) -> None:
        """Set fresh weights so that the first output is (nearly) the nearest enlargement and deep blocks have a say.

        As :meth:`compress.models.span.Span.start_from_interpolation`: convolutions scaled to unit output variance in
        order of execution; three channels carry the image through the fusion and the skip of the last convolution.
        """
        with torch.no_grad():
            x = _smooth_noise()
            first, *others = self._blocks()
            deep = early = first.start(x)
            for block in others:
                deep = block.start(deep)
            _to_unit_variance(self.conv_cat, torch.cat([self.conv_near(x), deep, early], 1))
            self.conv_cat.weight[:3] = 0.0
            self.conv_cat.weight[range(3), range(0, 3 * self.scale**2, self.scale**2)] = 1.0
            for parameter in self.conv_2.parameters():
                parameter.mul_(0.1)
            skip = self.conv_2.get_parameter("sk.weight")
            skip[:, :3] = torch.eye(3).repeat_interleave(self.scale**2, 0)[:, :, None, None]
            self.conv_cat.get_parameter("bias")[:3] = 0.0


class Spanv2(nn.Module):
    """SPANV2, plain; the authors' training form is not published.

    Args:
        channels: width.
        scale: enlargement.
    """

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        for k in range(1, _BLOCKS + 1):
            self.add_module(f"block_{k}", _ReluBlock(3 if k == 1 else channels, channels))
        self.conv_near = _near(scale)
        fused = 3 * scale**2 + channels
        self.depthwise_conv = nn.Conv2d(fused, fused, 3, padding=1, groups=fused, bias=False)
        self.pointwise_conv = nn.Conv2d(fused, 3 * scale**2, 1, bias=False)
        self.depth_to_space = nn.PixelShuffle(scale)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] to (N, 3, scale*H, scale*W)."""
        deep = x
        for block in self._blocks():
            deep = block(deep)
        fused = self.depthwise_conv(torch.cat([self.conv_near(x), deep], 1))
        enlarged: Tensor = self.depth_to_space(self.pointwise_conv(fused))
        return enlarged

    def _blocks(self) -> list[_ReluBlock]:
        return [block for block in self.children() if isinstance(block, _ReluBlock)]

    def start_from_interpolation(self) -> None:
        """Set fresh weights so that the first output is (nearly) the bilinear enlargement; see SPANF's start."""
        with torch.no_grad():
            x = deep = _smooth_noise()
            for block in self._blocks():
                deep = block.start(deep)
            fused = torch.cat([self.conv_near(x), deep], 1)
            _to_unit_variance(self.depthwise_conv, fused)
            near = 3 * self.scale**2
            kernels = _bilinear(self.scale).view(3, self.scale**2, 3, 3, 3)  # (c, sub-pixel, c', 3, 3)
            own = torch.stack([kernels[c, :, c] for c in range(3)]).view(near, 1, 3, 3)
            self.depthwise_conv.weight[:near] = own
            self.pointwise_conv.weight.mul_(0.01)
            self.pointwise_conv.weight[:, :near] = torch.eye(near)[:, :, None, None]


def _refusal(name: str, expected: str, state: Mapping[str, Tensor], path: Path) -> WeightsError:
    found = ", ".join(sorted({k.split(".", 1)[0] for k in state})[:10])
    return WeightsError(f"weights {path} are not {name}'s: expected {expected}; found {found}; choose another --model")


def _near_scale(state: Mapping[str, Tensor]) -> int | None:
    """The scale told by the convolution that carries the image; None: there is none for RGB."""
    near = state.get("conv_near.weight")
    if near is None or near.dim() != 4 or near.shape[0] % 3:
        return None
    scale = round((near.shape[0] / 3) ** 0.5)
    return scale if 3 * scale**2 == near.shape[0] else None


def from_state(state: Mapping[str, Tensor], path: Path) -> nn.Module:
    """SPANF, its sizes read off the tensors; deploy and training checkpoints alike.

    Raises:
        WeightsError: these are not SPANF weights.
    """
    trained = "conv_2.sk.weight" in state
    if trained:  # the merged kernels in such a file are stale copies: they are made anew by `merge`
        state = {k: v for k, v in state.items() if ".eval_conv." not in k}
    state = {k.replace(".eval_conv.", "."): v for k, v in state.items()}
    fusion, scale = state.get("conv_cat.weight"), _near_scale(state)
    if fusion is None or fusion.dim() != 4 or scale is None:
        raise _refusal("SPANF", "conv_near, block_1 to block_5, conv_cat, conv_2", state, path)
    module = Spanf(fusion.shape[0], scale, trained)
    load_into(module, state, path)
    return module.eval()


def from_state_v2(state: Mapping[str, Tensor], path: Path) -> nn.Module:
    """SPANV2, its sizes read off the tensors.

    Raises:
        WeightsError: these are not SPANV2 weights.
    """
    guide, scale = state.get("block_2.guidance_map_conv.weight"), _near_scale(state)
    if guide is None or guide.dim() != 4 or scale is None:
        expected = "conv_near, block_1 to block_5 with guidance_map_conv, depthwise_conv, pointwise_conv"
        raise _refusal("SPANV2", expected, state, path)
    module = Spanv2(guide.shape[0], scale)
    load_into(module, state, path)
    return module.eval()


def build(scale: int = 4, channels: int = 32) -> nn.Module:
    """SPANF with Conv3XC, starting from nearest interpolation; at least 4 channels."""
    module = Spanf(channels, scale, trainable=True)
    module.start_from_nearest()
    return module.train()


def build_v2(scale: int = 4, channels: int = 32) -> nn.Module:
    """SPANV2, starting from bilinear interpolation."""
    module = Spanv2(channels, scale)
    module.start_from_interpolation()
    return module.train()


MODELS.add("spanf")(
    Family(
        title="SPANF, 32 channels, 5 blocks, of NTIRE 2025's efficient super-resolution (arXiv:2504.10686)",
        task=SUPER_RESOLUTION,
        build=build,
        from_state=from_state,
        marks=("conv_near.weight", "block_5.c1_r.sk.weight|block_5.c1_r.eval_conv.weight|block_5.c1_r.weight"),
    )
)
MODELS.add("spanv2")(
    Family(
        title="SPANV2, the fastest of NTIRE 2026's efficient super-resolution (arXiv:2604.03198)",
        task=SUPER_RESOLUTION,
        build=build_v2,
        from_state=from_state_v2,
        marks=("conv_near.weight", "block_2.guidance_map_conv.weight", "depthwise_conv.weight"),
    )
)
