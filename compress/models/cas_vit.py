"""CAS-ViT: convolutional additive self-attention vision transformers (Zhang et al., arXiv:2408.03703).

Queries and keys pass a spatial and a channel gate, are added, filtered and multiplied with the values (section 3.2,
equations 5 to 7): attention without a softmax or a matrix product, for maps of any size.  Names of tensors are those
of the authors' code (Tianfang-Zhang/CAS-ViT, classification/model/rcvit.py), whose checkpoints load; where one has
a second head from distillation, both heads are averaged.  Merging folds the batch normalisations into the
convolutions beside them, but for the last one.  Stochastic depth belongs to the published recipe and is left out.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from torch import Tensor, nn

from compress.models._classifier import IMAGENET, LARGE_SIDE, Normalize, keep_side, side_in
from compress.models.deit import count, load
from compress.models.inception_next import fold, fold_before, merge_all
from compress.network import CLASSIFICATION, Family
from compress.registry import MODELS

__all__ = ["CasVit", "build", "from_state"]

_EXPANSION = 4
_STEMS = {2: 1, 4: 2}  # side of a patch, and how many convolutions halve the image down to it


class _FoldedSequential(nn.Sequential):
    """Layers in a row; merging folds each batch normalisation into the convolution before it."""

    def merge(self) -> nn.Sequential:
        """The equal row with the same numbers, and nothing in the places of the normalisations."""
        layers = [copy.deepcopy(layer) for layer in self]
        for k, (layer, norm) in enumerate(pairwise(layers)):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                layers[k : k + 2] = fold(layer, norm), nn.Identity()
        return nn.Sequential(*layers)


def _depthwise(width: int) -> nn.Conv2d:
    return nn.Conv2d(width, width, 3, padding=1, groups=width)


class _Gate(nn.Module):
    """The input times a gate that is made from it, broadcast over channels or over places."""

    def __init__(self, block: nn.Sequential) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        y: Tensor = x * self.block(x)
        return y


def _spatial(width: int) -> _Gate:
    """One gate for each place (section 3.2, "spatial operation")."""
    return _Gate(
        _FoldedSequential(
            _depthwise(width), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 1, 1, bias=False), nn.Sigmoid()
        )
    )


def _channel(width: int) -> _Gate:
    """One gate for each channel (section 3.2, "channel operation")."""
    return _Gate(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, width, 1, bias=False), nn.Sigmoid()))


class _AdditiveMixer(nn.Module):
    """Convolutional additive self-attention (equation 7)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Conv2d(width, 3 * width, 1, bias=False)
        self.oper_q = nn.Sequential(_spatial(width), _channel(width))
        self.oper_k = nn.Sequential(_spatial(width), _channel(width))
        self.dwc = _depthwise(width)
        self.proj = _depthwise(width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        q, k, v = self.qkv(x).chunk(3, 1)
        y: Tensor = self.proj(self.dwc(self.oper_q(q) + self.oper_k(k)) * v)
        return y


class _Local(nn.Module):
    """1x1, normalisation, depthwise 3x3, GELU, 1x1 (section 3.3, "integration subnet")."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.network = _FoldedSequential(
            nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), _depthwise(width), nn.GELU(), nn.Conv2d(width, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        y: Tensor = self.network(x)
        return y


class _Mlp(nn.Module):
    """Two 1x1 convolutions with GELU between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, _EXPANSION * width, 1)
        self.act = nn.GELU()
        self.fc2 = nn.Conv2d(_EXPANSION * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        y: Tensor = self.fc2(self.act(self.fc1(x)))
        return y


class _Block(nn.Module):
    """Local filters, additive attention and two 1x1 convolutions, each added to its input: the merged form."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.local_perception = _Local(width)
        self.attn = _AdditiveMixer(width)
        self.mlp = _Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        x = x + self.local_perception(x)
        x = x + self.attn(x)
        y: Tensor = x + self.mlp(x)
        return y


class _NormedBlock(_Block):
    """With batch normalisation before the attention and before the 1x1 convolutions (figure 3)."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.norm1 = nn.BatchNorm2d(width)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        x = x + self.local_perception(x)
        x = x + self.attn(self.norm1(x))
        y: Tensor = x + self.mlp(self.norm2(x))
        return y

    def merge(self) -> _Block:
        """The equal block without normalisations."""
        plain = _Block(self.norm1.num_features)
        plain.local_perception, plain.attn, plain.mlp = copy.deepcopy((self.local_perception, self.attn, self.mlp))
        plain.attn.qkv = fold_before(self.norm1, plain.attn.qkv)
        plain.mlp.fc1 = fold_before(self.norm2, plain.mlp.fc1)
        return merge_all(plain)


class _Halving(nn.Module):
    """A 3x3 convolution that halves the map: the merged form."""

    def __init__(self, proj: nn.Conv2d) -> None:
        super().__init__()
        self.proj = proj

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', ceil(H / 2), ceil(W / 2))."""
        y: Tensor = self.proj(x)
        return y


class _NormedHalving(_Halving):
    """With batch normalisation."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__(nn.Conv2d(inputs, width, 3, 2, 1))
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', ceil(H / 2), ceil(W / 2))."""
        y: Tensor = self.norm(self.proj(x))
        return y

    def merge(self) -> _Halving:
        """The equal module without normalisation."""
        return _Halving(fold(self.proj, self.norm))


def _stem(channels: int, width: int, patch: int) -> _FoldedSequential:
    """Convolutions that halve the image, each with normalisation and ReLU."""
    if patch not in _STEMS:
        raise ValueError(f"patch {patch}: expected one of {sorted(_STEMS)}")
    widths = [channels, width] if patch == 2 else [channels, width // 2, width]
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.BatchNorm2d(outputs), nn.ReLU()]
    return _FoldedSequential(*layers)


class CasVit(nn.Module):
    """CAS-ViT.

    Args:
        classes: length of the logits.
        channels: of the input.
        side: of the images it is made for; others work.
        patch: side of the patches that become one place of the first map, 2 or 4.
        widths: channels of each stage.
        depths: blocks of each stage.
        distilled: with a second head.
    """

    def __init__(
        self,
        classes: int,
        channels: int,
        side: int,
        patch: int,
        widths: Sequence[int],
        depths: Sequence[int],
        distilled: bool,
    ) -> None:
        super().__init__()
        self.classes, self.channels, self.input_size = classes, channels, (side, side)
        keep_side(self, side)
        self.normalize = Normalize(IMAGENET, channels)
        self.patch_embed = _stem(channels, widths[0], patch)
        stages: list[nn.Module] = []
        for k, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            stages += [_NormedHalving(widths[k - 1], width)] if k else []
            stages.append(nn.Sequential(*(_NormedBlock(width) for _ in range(depth))))
        self.network = nn.Sequential(*stages)
        self.norm = nn.BatchNorm2d(widths[-1])
        self.head = nn.Linear(widths[-1], classes)
        self.distilled = distilled
        if distilled:
            self.dist_head = nn.Linear(widths[-1], classes)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) in [0, 1] to logits (N, classes)."""
        x = self.norm(self.network(self.patch_embed(self.normalize(x)))).mean((2, 3))
        logits: Tensor = self.head(x)
        return (logits + self.dist_head(x)) * 0.5 if self.distilled else logits


def _sized_after(state: Mapping[str, Tensor]) -> CasVit:
    stem = [state[k] for k in ("patch_embed.0.weight", "patch_embed.3.weight") if k in state]
    stages = range(0, count(state, "network."), 2)
    widths = [state[f"network.{k}.0.attn.dwc.weight"].shape[0] for k in stages]
    depths = [count(state, f"network.{k}.") for k in stages]
    side = side_in(state)
    distilled = "dist_head.weight" in state
    patch = 2 ** len(stem)
    module = CasVit(state["head.weight"].shape[0], stem[0].shape[1], side, patch, widths, depths, distilled)
    return module if "patch_embed.1.weight" in state else merge_all(module)


def from_state(state: Mapping[str, Tensor], path: Path) -> CasVit:
    """The network whose sizes are read off the tensors; as trained and merged alike.

    Raises:
        WeightsError: these are not CAS-ViT's weights.
    """
    return load(_sized_after, state, path, ("CAS-ViT", "patch_embed, network with attn.oper_q, norm, head"))


def build(
    classes: int = 10,
    channels: int = 3,
    input_size: int = LARGE_SIDE,
    patch: int = 4,
    widths: Sequence[int] = (48, 56, 112, 220),
    depths: Sequence[int] = (2, 2, 4, 2),
    distilled: bool = False,
) -> nn.Module:
    """CAS-ViT-XS of table 1; ``input_size=32, patch=2`` for small images."""
    return CasVit(classes, channels, input_size, patch, widths, depths, bool(distilled)).train()


MODELS.add("cas-vit-xs")(
    Family(
        title="CAS-ViT-XS, additive-attention transformer for classification (arXiv:2408.03703)",
        task=CLASSIFICATION,
        build=build,
        from_state=from_state,
        marks=(
            "patch_embed.0.weight",
            "network.0.0.local_perception.network.0.weight",
            "network.0.0.attn.oper_q.0.block.0.weight",
            "head.weight",
        ),
        input_size=(LARGE_SIDE, LARGE_SIDE),
    )
)
