"""DeiT: data-efficient image transformers (Touvron et al., ICML 2021, arXiv:2012.12877).

A plain vision transformer (Dosovitskiy et al., arXiv:2010.11929, equations 1 to 4) with tensors named as in the
authors' checkpoints and in timm.  The distilled form (section 4) has a second token and a second head; both
heads are averaged, as the paper does at test time, and here in training too.  Stochastic depth belongs to the
published recipe and is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from compress.errors import WeightsError
from compress.models._classifier import IMAGENET, Normalize, with_counters
from compress.network import CLASSIFICATION, Family
from compress.registry import MODELS
from compress.weights import load_into

__all__ = ["Deit", "build", "count", "from_state", "load"]

_SIDE = 224
_HEAD_WIDTH = 64  # in all published sizes (table 1)
_EXPANSION = 4
_EPS = 1e-6

T = TypeVar("T", bound=nn.Module)


def load(
    make: Callable[[Mapping[str, Tensor]], T], state: Mapping[str, Tensor], path: Path, expected: tuple[str, str]
) -> T:
    """The module that ``make`` builds after the sizes of the tensors, with their values, in evaluation mode.

    Args:
        make: may look up any name and shape; what it misses means that these are another network's tensors.
        state: the tensors.
        path: their file, for messages.
        expected: the network's name, and which tensors tell it.

    Raises:
        WeightsError: tensors of another network, or missing, extra and wrongly shaped ones.
    """
    try:
        module = make(state)
    except (IndexError, KeyError, ValueError, ZeroDivisionError):
        found = ", ".join(sorted({k.split(".", 1)[0] for k in state})[:10])
        raise WeightsError(
            f"weights {path} are not {expected[0]}'s: expected {expected[1]}; found {found}; choose another --model"
        ) from None
    load_into(module, with_counters(state), path)
    return module.eval()


def count(state: Mapping[str, object], prefix: str) -> int:
    """How many numbered parts follow ``prefix``, such as ``blocks.``."""
    parts = {k[len(prefix) :].split(".", 1)[0] for k in state if k.startswith(prefix)}
    return len([p for p in parts if p.isdigit()])


class _Attention(nn.Module):
    """Multi-head self-attention as plain matrix products (arXiv:2010.11929, appendix A)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(1, width // _HEAD_WIDTH)
        if width % self.heads:
            raise ValueError(f"width {width}: expected below 128 or a multiple of {_HEAD_WIDTH}")
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, tokens, width) to the same."""
        n, tokens, width = x.shape
        each = width // self.heads
        q, k, v = (t.reshape(n, tokens, self.heads, each).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        weights = torch.softmax((q * each**-0.5) @ k.transpose(2, 3), -1)
        mixed: Tensor = self.proj((weights @ v).transpose(1, 2).reshape(n, tokens, width))
        return mixed


class _Mlp(nn.Module):
    """Two linear layers with GELU between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, _EXPANSION * width)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(_EXPANSION * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to the same."""
        y: Tensor = self.fc2(self.act(self.fc1(x)))
        return y


class _Block(nn.Module):
    """A transformer encoder layer, normalised first (arXiv:2010.11929, equations 2 and 3)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=_EPS)
        self.attn = _Attention(width)
        self.norm2 = nn.LayerNorm(width, eps=_EPS)
        self.mlp = _Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, tokens, width) to the same."""
        x = x + self.attn(self.norm1(x))
        y: Tensor = x + self.mlp(self.norm2(x))
        return y


class _PatchEmbed(nn.Module):
    """Patches to tokens, row by row (arXiv:2010.11929, equation 1)."""

    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) to (N, H / patch * W / patch, width)."""
        tokens: Tensor = self.proj(x).flatten(2).transpose(1, 2)
        return tokens


class Deit(nn.Module):
    """DeiT with square inputs and patches.

    Args:
        classes: length of the logits.
        channels: of the input.
        input_size: side of the input, a multiple of ``patch``.
        patch: side of a patch.
        width: of a token; heads have 64 of it each.
        depth: number of blocks.
        distilled: with the distillation token and its head.
    """

    def __init__(
        self, classes: int, channels: int, input_size: int, patch: int, width: int, depth: int, distilled: bool
    ) -> None:
        super().__init__()
        if input_size % patch:
            raise ValueError(f"input_size {input_size}: expected a multiple of patch, {patch}")
        self.classes, self.channels, self.input_size = classes, channels, (input_size, input_size)
        self.normalize = Normalize(IMAGENET, channels)
        self.patch_embed = _PatchEmbed(channels, width, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        if distilled:
            self.dist_token = nn.Parameter(torch.zeros(1, 1, width))
        self.distilled = distilled
        self.pos_embed = nn.Parameter(torch.zeros(1, (input_size // patch) ** 2 + 1 + distilled, width))
        self.blocks = nn.Sequential(*(_Block(width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=_EPS)
        self.head = nn.Linear(width, classes)
        if distilled:
            self.head_dist = nn.Linear(width, classes)
        self._start()

    def _start(self) -> None:
        """Truncated normal values of deviation 0.02, biases zero."""
        for parameter in (self.pos_embed, self.cls_token, *([self.dist_token] if self.distilled else [])):
            nn.init.trunc_normal_(parameter, std=0.02)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, side, side) in [0, 1] to logits (N, classes)."""
        x = self.patch_embed(self.normalize(x))
        own = [self.cls_token, self.dist_token] if self.distilled else [self.cls_token]
        x = torch.cat([*(token.expand(x.shape[0], -1, -1) for token in own), x], 1) + self.pos_embed
        x = self.blocks(x)
        logits: Tensor = self.head(self.norm(x[:, 0]))
        if self.distilled:
            logits = (logits + self.head_dist(self.norm(x[:, 1]))) * 0.5
        return logits


def _sized_after(state: Mapping[str, Tensor]) -> Deit:
    width, channels, patch, _ = state["patch_embed.proj.weight"].shape
    distilled = "dist_token" in state
    grid = math.isqrt(state["pos_embed"].shape[1] - 1 - distilled)
    depth = count(state, "blocks.")
    return Deit(state["head.weight"].shape[0], channels, grid * patch, patch, width, depth, distilled)


def from_state(state: Mapping[str, Tensor], path: Path) -> Deit:
    """The network whose sizes are read off the tensors; plain and distilled checkpoints alike.

    Raises:
        WeightsError: these are not DeiT weights.
    """
    return load(_sized_after, state, path, ("DeiT", "cls_token, pos_embed, patch_embed.proj, blocks, norm, head"))


def build(
    classes: int = 10,
    channels: int = 3,
    input_size: int = _SIDE,
    patch: int = 16,
    width: int = 192,
    depth: int = 12,
    distilled: bool = False,
) -> nn.Module:
    """DeiT-Ti of table 1; ``input_size=32, patch=4`` for small images."""
    return Deit(classes, channels, input_size, patch, width, depth, bool(distilled)).train()


MODELS.add("deit-tiny")(
    Family(
        title="DeiT-Ti, vision transformer for classification (ICML 2021, arXiv:2012.12877)",
        task=CLASSIFICATION,
        build=build,
        from_state=from_state,
        marks=("cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "head.weight"),
        input_size=(_SIDE, _SIDE),
    )
)
